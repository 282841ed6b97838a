// Every layer and head at once: a small map each for the patch under the pointer.

import { cellOf, Stage } from "./stage.js";
import { cellsOf, cosines, limits } from "./cosine.js";
import { blockName, legend, placeOf } from "./panel.js";
import { colorOf, inkOn } from "./colors.js";
import { dropdown, element, refill } from "./dom.js";
import { HeadGrid } from "./head_grid.js";
import { chanceOf, rangeOf, scoresOf, withUnit } from "./scores.js";

const GROUP_NUMBERS = 3 * 2 ** 20;

// Layers of one shape, so many in a request that the next is on its way while they are painted.
function groupsOf(kind, grid) {
  const groups = [];
  let latest = "";
  kind.layers.forEach((layer, at) => {
    const shape = `${kind.heads[at]} x ${kind.dims[at]}`;
    const most = Math.max(1, Math.floor(GROUP_NUMBERS / (kind.heads[at] * kind.dims[at] * grid.grid[0] * grid.grid[1])));
    const group = groups[groups.length - 1];
    if (shape === latest && group.length < most) group.push(layer);
    else groups.push([layer]);
    latest = shape;
  });
  return groups;
}

export class HeadsView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("Picture", app.pointing());
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.grid = new HeadGrid("All layers and heads", "head", (layer, kv_head) => {
      // The chosen one again: it is opened.
      const { state } = app;
      app.set(state.layer === layer && state.kv_head === kv_head ? { view: "picture" } : { layer, kv_head });
    });
    this.bar = element("div", { class: "bar-line" });
    this.legend = legend("score");
    this.root = element("div", { class: "view split wide" },
      element("div", { class: "side" }, this.stage.root, this.title, this.facts,
        element("p", { class: "faint" }, "Colors run from each map's lowest to its highest cosine. A click chooses a head, a second one opens it.")),
      element("div", { class: "main" }, this.bar, this.grid.scroll));
  }

  async show(context) {
    const { state, library, where, grid, kind } = context;
    this.context = context;
    this.layers = new Map();
    this.cells = cellsOf(grid);
    this.grid.build(kind.layers, kind.heads);
    this.grid.choose(state.layer, state.kv_head);
    this.title.textContent = blockName(state);
    this.app.fill(this.stage, context, grid);
    this.paint(state.token);
    this.app.follow(this.showScores(context));
    // The maps of the chosen patch are a hundredth of the vectors, which come behind them.
    const isHeld = library.holds(where, state.kind, kind.layers);
    if (!isHeld) await this.showMaps(context);
    if (!this.app.isCurrent(context)) return;
    const layers = this.fetchLayers(context);
    if (isHeld) await layers;
    else this.app.follow(layers);
  }

  async showMaps({ state, library, where, kind }) {
    const { context } = this;
    const maps = await library.maps(where, state.kind, kind.layers, state.token);
    if (this.context !== context) return;
    let first = 0;
    kind.layers.forEach((layer, at) => {
      const last = first + kind.heads[at];
      // A pointer that is elsewhere by now has the maps of its patch when the vectors are there.
      if (!this.layers.has(layer)) maps.slice(first, last).forEach((map, head) => this.paintMap(layer, head, map, state.token));
      first = last;
    });
  }

  // Each layer is painted when it comes; the token may have moved by then.
  fetchLayers(context) {
    const { state, library, where, kind, grid } = context;
    return Promise.all(groupsOf(kind, grid).flatMap((group) => library.layersOf(where, state.kind, group)
      .map((promise, at) => promise.then((blocks) => {
        if (this.context !== context) return;
        this.layers.set(group[at], blocks);
        this.paintLayer(group[at], this.token ?? state.token);
      }))));
  }

  paint(token) {
    this.token = token;
    for (const layer of this.layers.keys()) this.paintLayer(layer, token);
    const { grid } = this.context;
    this.stage.setMarks(this.stage.cellMark(cellOf(grid, token), "query"));
    this.facts.textContent = `${placeOf(grid, token)} · token ${token}`;
  }

  paintLayer(layer, token) {
    this.layers.get(layer).forEach((block, head) => {
      this.paintMap(layer, head, cosines(block.vector(token), block, this.cells), token);
    });
  }

  paintMap(layer, head, map, token) {
    const { grid, state } = this.context;
    const range = limits(map, state.range, cellOf(grid, token));
    this.grid.paint(layer, head, map, grid.grid, range, state.colors);
    if (layer === state.layer && head === state.kv_head) this.stage.setMap(map, range, state.colors);
  }

  async showScores(context) {
    const { state } = context;
    const probes = await this.app.scores(context);
    if (!this.app.isCurrent(context)) return;
    const usable = probes.filter((probe) => scoresOf(probe, state.kind).length);
    if (!usable.length) {
      this.grid.label(null);
      this.bar.replaceChildren(element("span", { class: "faint" }, "No probe of this kind is kept: kvtool probe STORE all"));
      return;
    }
    const probe = usable.find((entry) => entry.task === state.score) ?? usable[0];
    this.labelHeads(probe, scoresOf(probe, state.kind));
    refill(this.bar,
      element("span", { class: "faint" }, "Scores of"),
      dropdown("Probe", usable.map((entry) => [entry.task, entry.task]), probe.task, (score) => this.app.set({ score })),
      this.legend.root, element("span", { class: "faint" }, chanceLine(probe, state.kind)));
  }

  // Under each map its score; gray where knowing nothing of the pictures does better.
  labelHeads(probe, scores) {
    const { state } = this.context;
    const byHead = new Map(scores.map((score) => [`${score.layer}:${score.head}`, score]));
    const range = rangeOf(scores);
    this.grid.label((layer, head) => {
      const score = byHead.get(`${layer}:${head}`);
      if (!score) return null;
      const chance = chanceOf(probe, state.kind, score);
      const colors = score.isWorse ? {} : { color: colorOf(score.value, ...range), ink: inkOn(score.value, ...range) };
      return {
        text: score.text.replace(/^(-?)0\./, "$1."), ...colors,
        title: `${probe.task}: ${probe.metric} ${withUnit(score.interval, probe)}${chance ? `, ${chance}` : ""}`,
      };
    });
    const [kind, layer, head] = probe.best?.block ?? [];
    this.grid.mark("best", (...name) => kind === state.kind && name[0] === layer && name[1] === head);
    const textOf = (value) => withUnit(scores.find((score) => score.value === value)?.text ?? "", probe);
    const values = scores.map((score) => score.value);
    this.legend.write([textOf(Math.min(...values)), textOf(Math.max(...values))], "viridis");
  }
}

function chanceLine(probe, kind) {
  const chance = chanceOf(probe, kind);
  return chance ? `${chance}; gray: ${probe.higher_is_better ? "below" : "above"} it` : "";
}
