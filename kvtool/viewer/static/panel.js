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
    set([least, most], colors, digits = 2) {
      low.textContent = least.toFixed(digits);
      high.textContent = most.toFixed(digits);
      ramp.style.background = gradient(colors);
    },
  };
}

// The most similar patches of a map: a bar each, a click goes there.
export function ranking(onpick) {
  const root = element("ol", { class: "ranking" });
  return {
    root,
    set(map, grid, own, range, colors) {
      root.replaceChildren(...strongest(map, 6, own).map((cell) => {
        const share = Math.max(0.02, Math.min(1, (map[cell] - range[0]) / (range[1] - range[0])));
        const bar = element("span", { class: "bar" });
        bar.style.width = `${100 * share}%`;
        bar.style.background = colorOf(map[cell], ...range, colors);
        return element("li", {}, element("button", {
          type: "button", class: "rank", onclick: () => onpick(tokenOf(grid, cell)),
        }, element("span", {}, placeOf(grid, tokenOf(grid, cell))), element("span", { class: "track" }, bar),
        element("span", { class: "number" }, rounded(map[cell]))));
      }));
    },
  };
}

export function notice(text) {
  return element("p", { class: "notice" }, text);
}
