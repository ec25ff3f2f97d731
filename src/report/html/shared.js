"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
// The size of a chart and the frame within it.
const W = 520, H = 280, L = 56, R = 508, T = 12, B = 246;

const node = (name, attributes, parent, text) => {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
};

// Round values within a range, a few of them.
const ticks = (low, high, most) => {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
};

const number = (value, percent) => {
  if (value === null) return "-";
  if (percent) return (100 * value).toFixed(1) + " %";
  return value !== 0 && (Math.abs(value) < 0.01 || Math.abs(value) >= 1e4)
    ? value.toExponential(1) : String(Number(value.toPrecision(4)));
};
