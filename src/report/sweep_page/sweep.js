(() => {
  const { settings, groups, measured, front } = data;
  const percent = (value) => number(value, true);

  const range = (values, share, least) => {
    let low = Math.min(...values), high = Math.max(...values);
    const pad = Math.max((high - low) * share, (least - (high - low)) / 2, 0);
    return [low - pad, high + pad];
  };

  // Grid, ticks and frame of a chart; where a value lies in it.
  const frame = (svg, [x0, x1], [y0, y1], columns) => {
    svg.replaceChildren();
    const x = (value) => L + (value - x0) / (x1 - x0) * (R - L);
    const y = (value) => B - (value - y0) / (y1 - y0) * (B - T);
    for (const tick of ticks(y0, y1, 5)) {
      node("line", { class: "grid", x1: L, x2: R, y1: y(tick), y2: y(tick) }, svg);
      node("text", { x: L - 6, y: y(tick) + 4, "text-anchor": "end" }, svg, percent(tick));
    }
    const every = columns ? Math.ceil(columns.length / 8) : 1;
    if (columns) {
      columns.forEach((name, at) => {
        if (at % every) return;
        const shown = name.length > 14 ? name.slice(0, 13) + "…" : name;
        node("text", { x: x(at), y: B + 18, "text-anchor": "middle" }, svg, shown);
      });
    } else {
      for (const tick of ticks(x0, x1, 6)) {
        node("text", { x: x(tick), y: B + 18, "text-anchor": "middle" }, svg, number(tick));
      }
    }
    node("path", { class: "axis", d: `M${L} ${T}V${B}H${R}` }, svg);
    return [x, y];
  };

  const path = (points) => points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  // Pointer and arrow keys lead from one thing to the next; `say` tells of it and shows where it is.
  const stepping = (svg, places, say) => {
    const readout = document.getElementById(svg.id + "-readout");
    const at = (index) => {
      svg.dataset.at = index;
      readout.textContent = say(index);
    };
    svg.onpointermove = (event) => {
      if (!places.length) return;
      const box = svg.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width * W, (event.clientY - box.top) / box.height * H];
      const away = places.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
      at(away.indexOf(Math.min(...away)));
    };
    svg.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !places.length) return;
      event.preventDefault();
      const next = Number(svg.dataset.at ?? (step > 0 ? -1 : places.length)) + step;
      at(Math.max(0, Math.min(places.length - 1, next)));
    };
  };

  const known = groups.map((group) => group.accuracy).filter((it) => it !== null);
  const all = settings.flatMap((setting) => setting.runs.map((run) => run[1])).concat(known);
  const accuracies = range(all.length ? all : [0, 1], 0.06, 0.02);

  settings.forEach((setting, index) => {
    const svg = document.getElementById(`axis-${index}`);
    if (!svg) return;
    const last = setting.values.length - 1;
    const [x, y] = frame(svg, [-0.5, last + 0.5], accuracies, setting.values);
    const means = setting.values.map((_, at) => {
      const found = setting.runs.filter((run) => run[0] === at).map((run) => run[1]);
      return found.length ? found.reduce((a, b) => a + b) / found.length : null;
    });
    const points = means.map((mean, at) => [at, mean]).filter(([, mean]) => mean !== null);
    node("path", { class: "val", d: path(points.map(([at, mean]) => [x(at), y(mean)])) }, svg);
    for (const [at, accuracy] of setting.runs) {
      node("circle", { class: "dot", cx: x(at), cy: y(accuracy), r: 3 }, svg);
    }
    const mark = node("circle", { class: "mark", r: 6, visibility: "hidden" }, svg);
    stepping(svg, points.map(([at, mean]) => [x(at), y(mean)]), (which) => {
      const [at, mean] = points[which];
      mark.setAttribute("cx", x(at));
      mark.setAttribute("cy", y(mean));
      mark.setAttribute("visibility", "visible");
      const runs = setting.runs.filter((run) => run[0] === at).length;
      return `${setting.key} ${setting.values[at]}: ${measured} ${percent(mean)} on average of ${runs} runs`;
    });
  });

  const pareto = document.getElementById("pareto");
  if (pareto) {
    const shown = groups.filter((group) => group.accuracy !== null);
    const seconds = range(shown.map((group) => group.seconds), 0.06, 1);
    const [x, y] = frame(pareto, [Math.max(seconds[0], 0), seconds[1]], accuracies);
    node("path", { class: "val", d: path(front.map(([a, b]) => [x(a), y(b)])) }, pareto);
    const places = shown.map((group) => [x(group.seconds), y(group.accuracy)]);
    for (const [cx, cy] of places) node("circle", { class: "dot", cx, cy, r: 3.5 }, pareto);
    const mark = node("circle", { class: "mark", r: 6, visibility: "hidden" }, pareto);
    stepping(pareto, places, (which) => {
      const [cx, cy] = places[which];
      mark.setAttribute("cx", cx);
      mark.setAttribute("cy", cy);
      mark.setAttribute("visibility", "visible");
      const group = shown[which];
      return `${described(group)}: ${percent(group.accuracy)} in ${number(group.seconds)} s`;
    });
  }

  function described(group) {
    if (!settings.length) return `row ${groups.indexOf(group) + 1}`;
    return settings.map((setting, at) => `${setting.key} ${setting.values[group.values[at]]}`).join(", ");
  }

  const parallel = document.getElementById("parallel");
  if (parallel) {
    parallel.replaceChildren();
    const shown = groups.filter((group) => group.accuracy !== null);
    const columns = settings.length;
    const at = (column) => L + column / columns * (R - L);
    const [low, high] = accuracies;
    const height = (group, column) => {
      if (column === columns) return B - (group.accuracy - low) / (high - low) * (B - T - 16);
      const last = settings[column].values.length - 1;
      return last ? B - group.values[column] / last * (B - T - 16) : (B + T + 16) / 2;
    };
    const ranked = [...shown].sort((a, b) => a.accuracy - b.accuracy);
    const lines = new Map();
    ranked.forEach((group, rank) => {
      const points = [...Array(columns + 1).keys()].map((column) => [at(column), height(group, column)]);
      const opacity = 0.15 + 0.85 * (rank + 1) / ranked.length;
      lines.set(group, node("path", { class: "train", d: path(points), opacity }, parallel));
    });
    [...settings, { key: measured, values: [] }].forEach((setting, column) => {
      const anchor = column === 0 ? "start" : column === columns ? "end" : "middle";
      node("path", { class: "axis", d: `M${at(column)} ${T + 16}V${B}` }, parallel);
      node("text", { x: at(column), y: T + 6, "text-anchor": anchor }, parallel, setting.key);
      const last = setting.values.length - 1;
      setting.values.forEach((value, index) => {
        if (index % Math.ceil((last + 1) / 8)) return;
        const y = last ? B - index / last * (B - T - 16) : (B + T + 16) / 2;
        const text = value.length > 16 ? value.slice(0, 15) + "…" : value;
        node("text", { x: at(column) + 5, y: y + 4, class: "halo" }, parallel, text);
      });
    });
    for (const tick of ticks(low, high, 5)) {
      const y = B - (tick - low) / (high - low) * (B - T - 16);
      node("text", { x: R - 5, y: y + 4, "text-anchor": "end", class: "halo" }, parallel, percent(tick));
    }
    const places = shown.map((group) => [at(columns), height(group, columns)]);
    stepping(parallel, places, (which) => {
      for (const line of lines.values()) line.classList.remove("chosen");
      lines.get(shown[which]).classList.add("chosen");
      return `${described(shown[which])}: ${measured} ${percent(shown[which].accuracy)}`;
    });
  }
  document.documentElement.dataset.ready = "yes";
})();
