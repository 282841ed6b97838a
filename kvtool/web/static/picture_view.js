// One picture: the cosine of every patch with the one under the pointer, in the block that is chosen.

import { cellOf, Stage } from "./stage.js";
import { cellsOf, cosines, limits } from "./cosine.js";
import { blockName, legend, placeOf, ranking, rounded } from "./panel.js";
import { colorOf } from "./colors.js";
import { element } from "./dom.js";

export class PictureView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("Similarity map", app.pointing());
    this.legend = legend();
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.ranking = ranking((token) => app.set({ token }));
    this.probes = element("div", { class: "probes" });
    this.root = element("div", { class: "view split" }, this.stage.root,
      element("aside", { class: "panel" }, this.title, this.facts, this.legend.root,
        element("h3", {}, "Most similar patches"), this.ranking.root, this.probes));
  }

  async show(context) {
    const { state, library, where, grid } = context;
    this.app.fill(this.stage, context, grid);
    const block = await library.block(where, state.kind, state.layer, state.kv_head);
    if (!this.app.isCurrent(context)) return;
    this.context = context;
    this.block = block;
    this.cells = cellsOf(grid);
    this.title.textContent = blockName(state);
    this.paint(state.token);
    this.showProbes(context);
  }

  paint(token) {
    const { grid, state } = this.context;
    const own = cellOf(grid, token);
    const map = cosines(this.block.vector(token), this.block, this.cells);
    const range = limits(map, state.range, own);
    this.map = map;
    this.stage.setMap(map, range, state.colors);
    this.stage.setMarks(this.stage.cellMark(own, "query"));
    this.legend.set(range, state.colors);
    this.ranking.set(map, grid, own, range, state.colors);
    this.facts.textContent = `${placeOf(grid, token)} · token ${token}`;
    this.stage.describe(`${placeOf(grid, token)} of ${this.context.image.image}`);
  }

  // The value under the pointer, while the map of another patch stays.
  read(token) {
    const { grid, state } = this.context;
    const cell = cellOf(grid, token);
    this.stage.setMarks([
      ...this.stage.cellMark(cellOf(grid, state.token), "query"), ...this.stage.cellMark(cell, "match"),
    ]);
    this.facts.textContent = `${placeOf(grid, token)}: cosine ${rounded(this.map[cell])} with ${placeOf(grid, state.token)}`;
  }

  async showProbes(context) {
    const { state } = context;
    const scores = await this.app.scores(context);
    if (!this.app.isCurrent(context)) return;
    const rows = scores.map((probe) => {
      const here = probe.blocks.find((row) => isBlock(row, state));
      const best = bestOf(probe);
      const values = probe.blocks.map((row) => row[3]);
      const range = [Math.min(...values), Math.max(...values)];
      const jump = element("button", {
        type: "button", class: "link",
        onclick: () => this.app.set({ kind: best[0], layer: best[1], kv_head: best[2] }),
      }, `best: ${blockName({ kind: best[0], layer: best[1], kv_head: best[2] })} ${best[3].toFixed(3)}`);
      const dot = element("span", { class: "dot" });
      if (here) dot.style.background = colorOf(here[3], ...range);
      return element("div", { class: "probe" }, element("div", {}, dot, `${probe.task} `,
        element("span", { class: "number" }, here ? here[3].toFixed(3) : "no score")),
      element("div", { class: "faint" }, `${probe.metric} · `, jump));
    });
    this.probes.replaceChildren(...(rows.length ? [element("h3", {}, "Kept probes of this block"), ...rows] : []));
  }
}

export function isBlock([kind, layer, head], state) {
  return kind === state.kind && layer === state.layer && head === state.kv_head;
}

export function bestOf(probe) {
  const sign = probe.higher_is_better ? 1 : -1;
  return probe.blocks.reduce((best, row) => (sign * row[3] > sign * best[3] ? row : best));
}
