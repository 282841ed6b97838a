// One picture: the cosine of every patch with the one under the pointer, in the block that is chosen.

import { cellOf, Stage } from "./stage.js";
import { cellsOf, cosines, limits } from "./cosine.js";
import { blockName, legend, placeOf, ranking, rounded } from "./panel.js";
import { colorOf } from "./colors.js";
import { element, refill } from "./dom.js";
import { chanceOf, rangeOf, scoresOf, withUnit } from "./scores.js";

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
    this.app.follow(this.showProbes(context));
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
    const probes = await this.app.scores(context);
    if (!this.app.isCurrent(context)) return;
    const nodes = probes.map((probe) => this.probe(probe, state));
    refill(this.probes, ...(nodes.length ? [element("h3", {}, "Kept probes of this block"), ...nodes] : []));
  }

  // A probe's score of the block, beside chance and the best block.
  probe(probe, state) {
    const score = scoresOf(probe, state.kind).find((row) => row.layer === state.layer && row.head === state.kv_head);
    const dot = element("span", { class: "dot" });
    if (score) dot.style.background = colorOf(score.value, ...rangeOf(scoresOf(probe, state.kind)));
    const { best } = probe;
    const [kind, layer, kv_head] = best?.block ?? [];
    const jump = best && element("button", {
      type: "button", class: "link", onclick: () => this.app.set({ kind, layer, kv_head }),
    }, `best: ${blockName({ kind, layer, kv_head })}`);
    return element("div", { class: "probe" },
      element("div", {}, dot, `${probe.task} `, element("strong", { class: "number" }, score ? withUnit(score.interval, probe) : "no score")),
      element("div", { class: "faint" }, [probe.metric, chanceOf(probe, state.kind, score)].filter(Boolean).join(" · ")),
      best && element("div", { class: "faint" }, jump, ` ${withUnit(best.text, probe)}${best.choice ? ` (${best.choice})` : ""}`),
      probe.verdict && element("div", { class: "faint" }, probe.verdict));
  }
}
