(() => {
  const rows = data.rows;

  const smooth = (values, weight) => {
    let mean = null;
    return values.map((value) => {
      if (value === null) return null;
      mean = mean === null ? value : weight * mean + (1 - weight) * value;
      return mean;
    });
  };

  const charts = [
    { id: "accuracy", percent: true, series: [["train_accuracy", "train"], ["val_accuracy", "val"]] },
    { id: "loss", series: [["train_loss", "train"], ["val_loss", "val"]] },
    { id: "lr", series: [["lr", "train"]] },
  ];
  const names = { train: "training", val: "validation" };

  const draw = (chart, settings) => {
    const svg = document.getElementById(chart.id);
    if (!svg) return;
    svg.replaceChildren();
    const log = settings.log && chart.id !== "accuracy";
    const place = (value) => (log ? Math.log10(value) : value);
    const xs = rows.map((row) => row.x);
    const lines = chart.series.map(([key, kind]) => {
      // Before training there is no learning rate.
      const read = (row) => (key === "lr" && row.lr === 0 ? null : row[key]);
      const values = smooth(rows.map(read), chart.id === "lr" ? 0 : settings.smoothing);
      return { kind, values: values.map((it) => (it === null || (log && it <= 0) ? null : it)) };
    });
    const all = lines.flatMap((line) => line.values).filter((it) => it !== null).map(place);
    if (!all.length) {
      node("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, svg, "no values");
      return;
    }
    let low = Math.min(...all), high = Math.max(...all);
    const pad = (high - low || Math.abs(high) * 0.1 || 0.1) * 0.06;
    low -= pad; high += pad;
    if (chart.percent) { low = Math.max(low, 0); high = Math.min(high, 1); }
    const first = Math.min(...xs), last = Math.max(...xs, first + 1);
    const x = (value) => L + (value - first) / (last - first) * (R - L);
    const y = (value) => B - (place(value) - low) / (high - low) * (B - T);
    for (const tick of ticks(low, high, 5)) {
      const at = B - (tick - low) / (high - low) * (B - T);
      node("line", { class: "grid", x1: L, x2: R, y1: at, y2: at }, svg);
      const shown = number(log ? 10 ** tick : tick, chart.percent);
      node("text", { x: L - 6, y: at + 4, "text-anchor": "end" }, svg, shown);
    }
    for (const tick of ticks(first, last, 8)) {
      if (tick !== Math.round(tick)) continue;
      node("text", { x: x(tick), y: B + 18, "text-anchor": "middle" }, svg, String(tick));
    }
    node("text", { x: (L + R) / 2, y: H - 2, "text-anchor": "middle" }, svg, data.unit);
    rows.forEach((row, at) => {
      if (at > 0 && row.phase !== rows[at - 1].phase) {
        const middle = x((row.x + rows[at - 1].x) / 2);
        node("line", { class: "phase", x1: middle, x2: middle, y1: T, y2: B }, svg);
        node("text", { x: middle + 4, y: T + 10 }, svg, row.phase);
      }
    });
    node("path", { class: "axis", d: `M${L} ${T}V${B}H${R}` }, svg);
    for (const line of lines) {
      let path = "", pen = "M";
      line.values.forEach((value, at) => {
        if (value === null) { pen = "M"; return; }
        path += `${pen}${x(xs[at]).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      });
      node("path", { class: line.kind, d: path }, svg);
    }
    const cursor = node("line", { class: "cursor", y1: T, y2: B, visibility: "hidden" }, svg);
    const readout = document.getElementById(chart.id + "-readout");
    const point = (at) => {
      cursor.setAttribute("x1", x(xs[at]));
      cursor.setAttribute("x2", x(xs[at]));
      cursor.setAttribute("visibility", "visible");
      const shown = lines.map((line) => {
        const name = chart.id === "lr" ? "learning rate" : names[line.kind];
        return `${name} ${number(line.values[at], chart.percent)}`;
      });
      readout.textContent = `${data.unit} ${xs[at]} (${rows[at].phase}): ${shown.join(", ")}`;
      svg.dataset.at = at;
    };
    svg.onpointermove = (event) => {
      const box = svg.getBoundingClientRect();
      const wanted = first + ((event.clientX - box.left) / box.width * W - L) / (R - L) * (last - first);
      let best = 0;
      xs.forEach((it, at) => { if (Math.abs(it - wanted) < Math.abs(xs[best] - wanted)) best = at; });
      point(best);
    };
    svg.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const at = Number(svg.dataset.at ?? (step > 0 ? -1 : xs.length)) + step;
      point(Math.max(0, Math.min(xs.length - 1, at)));
    };
  };

  const controls = { log: document.getElementById("log"), smoothing: document.getElementById("smoothing") };
  const redraw = () => {
    const settings = {
      log: controls.log?.checked ?? false,
      smoothing: Number(controls.smoothing?.value ?? 0),
    };
    charts.forEach((chart) => draw(chart, settings));
  };
  for (const control of Object.values(controls)) control?.addEventListener("input", redraw);
  redraw();

  // A cell of the confusion matrix shows its pictures.
  const list = document.getElementById("cell-pictures");
  const title = document.getElementById("cell-title");
  const cells = [...document.querySelectorAll(".confusion button")];
  const show = (cell) => {
    const { truth, predicted } = cell.dataset;
    cells.forEach((other) => other.setAttribute("aria-pressed", String(other === cell)));
    const found = data.pictures.filter((it) => it[1] === Number(truth) && it[2] === Number(predicted));
    title.textContent = `${found.length} of ${data.classes[truth]} taken for ${data.classes[predicted]}`;
    list.replaceChildren(...found.map(([path, , , confidence]) => {
      const item = document.createElement("li");
      const thumbnail = data.thumbnails[path];
      if (thumbnail) {
        const picture = document.createElement("img");
        picture.src = thumbnail;
        picture.alt = "";
        item.append(picture);
      }
      item.append(`${path} (${(100 * confidence).toFixed(1)} %)`);
      return item;
    }));
  };
  cells.forEach((cell) => cell.addEventListener("click", () => show(cell)));
  document.documentElement.dataset.ready = "yes";
})();
