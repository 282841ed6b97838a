// A picture with a map over it and marks over that; it tells which patch the pointer is on.

import { paint } from "./colors.js";
import { element, shape } from "./dom.js";

export class Stage {
  constructor(label, { onhover = null, onpick = null, onleave = null } = {}) {
    this.label = label;
    this.image = element("img", { alt: "", draggable: "false", hidden: true });
    this.canvas = element("canvas", { class: "map", "aria-hidden": "true", width: 1, height: 1 });
    this.overlay = shape("svg", { class: "marks", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.frame = element("div", { class: "frame", tabindex: onhover ? 0 : null, role: "img" },
      this.image, this.canvas, this.overlay);
    this.caption = element("figcaption");
    this.root = element("figure", { class: "stage" }, this.frame, this.caption);
    this.grid = null;
    this.title = "";
    this.note = "";
    this.wh = [1, 1];
    if (onhover) {
      this.frame.addEventListener("pointermove", (event) => {
        const token = this.tokenAt(event.clientX, event.clientY);
        if (token !== null) onhover(token);
      });
      this.frame.addEventListener("pointerleave", () => onleave?.());
      this.frame.addEventListener("click", (event) => {
        const token = this.tokenAt(event.clientX, event.clientY);
        if (token !== null) onpick?.(token);
      });
      this.frame.classList.add("active");
    }
  }

  describe(text) {
    this.frame.setAttribute("aria-label", text ? `${this.label}: ${text}` : this.label);
  }

  setGrid(wh, grid) {
    const [width, height] = wh;
    this.wh = wh;
    this.grid = grid;
    this.frame.style.setProperty("--ratio", String(width / height));
    this.frame.style.aspectRatio = `${width} / ${height}`;
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [x0, y0, x1, y1] = grid.cover;
    this.canvas.style.left = `${(100 * x0) / width}%`;
    this.canvas.style.top = `${(100 * y0) / height}%`;
    this.canvas.style.width = `${(100 * (x1 - x0)) / width}%`;
    this.canvas.style.height = `${(100 * (y1 - y0)) / height}%`;
    this.describe("");
  }

  // Another picture is on its way: the last one is none of this map's.
  expect(key) {
    this.key = key;
    this.image.hidden = true;
    this.note = "";
    this.setTitle(this.title);
  }

  setTitle(title) {
    this.title = title;
    this.caption.textContent = [title, this.note].filter(Boolean).join(" · ");
  }

  // A picture that is gone leaves a gray ground, and says why.
  setPicture({ url, note }) {
    this.frame.classList.toggle("gone", !url);
    this.image.hidden = !url;
    if (url) this.image.src = url;
    else this.image.removeAttribute("src");
    this.note = url ? "" : `Without the picture: ${note}`;
    this.setTitle(this.title);
  }

  setMap(map, range, colors) {
    this.canvas.hidden = !map;
    if (map) paint(this.canvas, map, this.grid.grid, range, colors);
  }

  setMarks(nodes) {
    this.overlay.replaceChildren(...nodes);
  }

  box(cell) {
    const [rows, cols] = this.grid.grid;
    const [x0, y0, x1, y1] = this.grid.cover;
    const [width, height] = [(x1 - x0) / cols, (y1 - y0) / rows];
    const row = Math.floor(cell / cols);
    return { x: x0 + (cell - row * cols) * width, y: y0 + row * height, width, height };
  }

  center(cell) {
    const box = this.box(cell);
    return [box.x + box.width / 2, box.y + box.height / 2];
  }

  // Two lines, dark under bright, so that a mark shows on every picture.
  cellMark(cell, name) {
    const box = this.box(cell);
    return ["casing", name].map((style) => shape("rect", { ...box, class: style }));
  }

  circleMark([cx, cy], r, name) {
    return ["casing", name].map((style) => shape("circle", { cx, cy, r, class: style }));
  }

  lineMark(points, name) {
    const path = points.map(([x, y]) => `${x},${y}`).join(" ");
    return ["casing", name].map((style) => shape("polyline", { points: path, class: style }));
  }

  tokenAt(clientX, clientY) {
    const bounds = this.frame.getBoundingClientRect();
    if (!this.grid || !bounds.width) return null;
    const x = ((clientX - bounds.left) / bounds.width) * this.wh[0];
    const y = ((clientY - bounds.top) / bounds.height) * this.wh[1];
    return this.tokenOver([x, y]);
  }

  tokenOver([x, y]) {
    const [rows, cols] = this.grid.grid;
    const [x0, y0, x1, y1] = this.grid.cover;
    const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
    const row = clamp(((y - y0) / (y1 - y0)) * rows, rows);
    const col = clamp(((x - x0) / (x1 - x0)) * cols, cols);
    return this.grid.start + row * this.grid.row_stride + col;
  }
}

export function cellOf(grid, token) {
  const row = Math.floor((token - grid.start) / grid.row_stride);
  return row * grid.grid[1] + (token - grid.start - row * grid.row_stride);
}

export function tokenOf(grid, cell) {
  const row = Math.floor(cell / grid.grid[1]);
  return grid.start + row * grid.row_stride + (cell - row * grid.grid[1]);
}

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// The token beside another one in an arrow key's direction; null for any other key.
export function tokenBeside(grid, token, key) {
  if (!ARROWS[key]) return null;
  const [rows, cols] = grid.grid;
  const cell = cellOf(grid, token);
  const [down, right] = ARROWS[key];
  const row = Math.min(Math.max(Math.floor(cell / cols) + down, 0), rows - 1);
  const col = Math.min(Math.max((cell % cols) + right, 0), cols - 1);
  return tokenOf(grid, row * cols + col);
}

export function middleOf(grid) {
  const [rows, cols] = grid.grid;
  return tokenOf(grid, Math.floor(rows / 2) * cols + Math.floor(cols / 2));
}

export function isToken(grid, token) {
  if (!Number.isInteger(token)) return false;
  const row = Math.floor((token - grid.start) / grid.row_stride);
  const col = token - grid.start - row * grid.row_stride;
  return row >= 0 && row < grid.grid[0] && col < grid.grid[1];
}
