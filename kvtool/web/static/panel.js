// The parts that several views have beside their pictures.

import { cellOf, tokenOf } from "./stage.js";
import { colorOf, gradient } from "./colors.js";
import { element } from "./dom.js";
import { strongest } from "./cosine.js";

export const rounded = (value) => (Number.isFinite(value) ? value.toFixed(3) : "not finite");

export function blockName({ kind, layer, kv_head }) {
  if (kind === "projected") return kind;
  return ["key", "value"].includes(kind) ? `${kind}, layer ${layer}, head ${kv_head}` : `${kind}, layer ${layer}`;
}

export function placeOf(grid, token) {
  const cell = cellOf(grid, token);
  const cols = grid.grid[1];
  return `row ${Math.floor(cell / cols)}, column ${cell % cols}`;
}

export function legend(label = "cosine") {
  const ramp = element("span", { class: "ramp" });
  const [low, high] = [element("span"), element("span")];
  const root = element("div", { class: "legend" }, element("span", { class: "faint" }, label), low, ramp, high);
  return {
    root,
    set(range, colors, digits = 2) {
      this.write(range.map((value) => value.toFixed(digits)), colors);
    },
    // The two ends as texts.
    write([least, most], colors) {
      low.textContent = least;
      high.textContent = most;
      ramp.style.background = gradient(colors);
    },
  };
}

const RANKS = 6;

// The most similar patches of a map: a bar each, a click goes there. Its lines are made once.
export function ranking(onpick) {
  const lines = Array.from({ length: RANKS }, () => {
    const line = { place: element("span"), bar: element("span", { class: "bar" }), number: element("span", { class: "number" }) };
    line.root = element("li", {}, element("button", { type: "button", class: "rank", onclick: () => onpick(line.token) },
      line.place, element("span", { class: "track" }, line.bar), line.number));
    return line;
  });
  return {
    root: element("ol", { class: "ranking" }, lines.map((line) => line.root)),
    set(map, grid, own, range, colors) {
      const cells = strongest(map, RANKS, own);
      lines.forEach((line, at) => {
        const cell = cells[at];
        line.root.hidden = cell === undefined;
        if (line.root.hidden) return;
        line.token = tokenOf(grid, cell);
        line.place.textContent = placeOf(grid, line.token);
        line.number.textContent = rounded(map[cell]);
        line.bar.style.width = `${100 * Math.max(0.02, Math.min(1, (map[cell] - range[0]) / (range[1] - range[0])))}%`;
        line.bar.style.background = colorOf(map[cell], ...range, colors);
      });
    },
  };
}

export function notice(text) {
  return element("p", { class: "notice" }, text);
}
