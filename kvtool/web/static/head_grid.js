// Small maps side by side, layers across and heads down; each is a button that chooses its head.

import { element } from "./dom.js";
import { paint } from "./colors.js";

const BAND = 14; // so many layers are side by side at most

export class HeadGrid {
  constructor(label, rowName, onchoose) {
    this.rowName = rowName;
    this.onchoose = onchoose;
    this.root = element("div", { class: "heads", role: "group", "aria-label": label });
    this.scroll = element("div", { class: "scroll" }, this.root);
    this.cells = new Map();
    this.shape = "";
  }

  // layers: numbers; counts: how many heads each has. Many layers go on below, in bands.
  build(layers, counts) {
    const shape = JSON.stringify([layers, counts]);
    if (shape === this.shape) return;
    this.shape = shape;
    this.cells.clear();
    const width = Math.ceil(layers.length / Math.ceil(layers.length / BAND));
    this.root.style.setProperty("--layers", String(width));
    this.root.classList.toggle("dense", width > 10);
    const bands = [];
    for (let first = 0; first < layers.length; first += width) {
      bands.push(...this.band(layers.slice(first, first + width), counts.slice(first, first + width), width));
    }
    this.root.replaceChildren(...bands);
  }

  band(layers, counts, width) {
    const filled = (nodes) => [...nodes, ...Array.from({ length: width - nodes.length }, () => element("span"))];
    const rows = Math.max(...counts);
    const head = [element("span", { class: "corner faint" }, "layer"), ...filled(layers.map((n) => element("span", { class: "axis" }, String(n))))];
    const lines = Array.from({ length: rows }, (_, number) => [
      element("span", { class: "axis side" }, rows > 1 ? `${this.rowName} ${number}` : ""),
      ...filled(layers.map((layer, at) => (number < counts[at] ? this.cell(layer, number) : element("span")))),
    ]);
    return [...head, ...lines.flat()];
  }

  cell(layer, number) {
    const canvas = element("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    const score = element("span", { class: "score", hidden: true });
    const button = element("button", {
      type: "button", class: "head", onclick: () => this.onchoose(layer, number),
      "aria-label": `layer ${layer}, ${this.rowName} ${number}`,
    }, canvas, score);
    this.cells.set(`${layer}:${number}`, { canvas, score, button, layer, number });
    return button;
  }

  paint(layer, number, map, size, range, colors) {
    const cell = this.cells.get(`${layer}:${number}`);
    if (cell) paint(cell.canvas, map, size, range, colors);
  }

  choose(layer, number) {
    for (const cell of this.cells.values()) {
      cell.button.setAttribute("aria-pressed", String(cell.layer === layer && cell.number === number));
    }
  }

  // What stands under each map; null for no labels at all.
  label(read) {
    for (const cell of this.cells.values()) {
      const about = read?.(cell.layer, cell.number);
      cell.score.hidden = !read;
      cell.score.classList.toggle("none", !about);
      cell.score.textContent = about?.text ?? "–";
      cell.score.style.background = about?.color ?? "";
      cell.score.style.color = about?.ink ?? "";
      cell.button.title = about?.title ?? "";
    }
  }

  mark(name, test) {
    for (const cell of this.cells.values()) cell.button.classList.toggle(name, test(cell.layer, cell.number));
  }
}
