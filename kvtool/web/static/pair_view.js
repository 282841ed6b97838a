// Two pictures: the best match in the right one for the patch under the pointer in the left one.

import { cellOf, Stage, tokenOf } from "./stage.js";
import { cellsOf, cosines, limits, strongest } from "./cosine.js";
import { blockName, legend, placeOf, rounded } from "./panel.js";
import { dropdown, element, refill } from "./dom.js";

export class PairView {
  constructor(app) {
    this.app = app;
    this.left = new Stage("Source", app.pointing());
    this.right = new Stage("Target");
    this.legend = legend();
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.choice = element("div", { class: "bar-line" });
    this.points = element("div", { class: "points" });
    this.root = element("div", { class: "view stacked" }, this.choice,
      element("div", { class: "two" }, this.left.root, this.right.root),
      element("div", { class: "below" }, this.title, this.facts, this.legend.root, this.points));
  }

  async show(context) {
    const { app } = this;
    const { state, library, where, grid } = context;
    const truth = await app.record("pairs", context);
    if (!app.isCurrent(context)) return;
    const pairs = truth.pairs.filter((pair) => pair.source === state.image);
    const target = this.target(context, pairs);
    this.pair = pairs.find((pair) => pair.target === target) ?? null;
    this.showChoice(context, pairs, target, truth.note);
    const other = await app.imageRecord(context, target);
    const otherWhere = { ...where, image: target, version: other.version };
    const otherGrid = app.gridOf(other, state.kind);
    app.fill(this.left, context, grid);
    app.fill(this.right, { ...context, image: other, where: otherWhere }, otherGrid);
    const [block, otherBlock] = await Promise.all([
      library.block(where, state.kind, state.layer, state.kv_head),
      library.block(otherWhere, state.kind, state.layer, state.kv_head),
    ]);
    if (!app.isCurrent(context)) return;
    Object.assign(this, { context, block, otherBlock, otherGrid });
    this.cells = cellsOf(otherGrid);
    this.title.textContent = blockName(state);
    this.matches = this.pair ? this.pair.source_px.map((point) => this.match(this.left.tokenOver(point))) : [];
    const keypoint = this.keypoint(context);
    const point = this.pair?.source_px[keypoint];
    if (point && (keypoint !== state.keypoint || this.left.tokenOver(point) !== state.token)) {
      // A link that names a keypoint need not know its patch.
      app.set({ keypoint, token: this.left.tokenOver(point) });
      return;
    }
    this.showPoints();
    this.paint(state.token);
  }

  target(context, pairs) {
    const { state, run } = context;
    if (state.target !== undefined && run.images.includes(state.target)) return state.target;
    if (pairs.length) return pairs[0].target;
    return run.images[(run.images.indexOf(state.image) + 1) % run.images.length];
  }

  // The keypoint that is meant: the first, as long as neither one nor a patch was chosen.
  keypoint({ state, isChosen }) {
    return state.keypoint ?? (isChosen ? undefined : 0);
  }

  showChoice(context, pairs, target, note) {
    const names = pairs.map((pair) => pair.target);
    const options = [...new Set([...names, ...context.run.images])].slice(0, 1000);
    if (!options.includes(target)) options.unshift(target);
    const label = (name) => (names.includes(name) ? `${name} · pair with keypoints` : name);
    refill(this.choice,
      element("span", { class: "faint" }, "Target"),
      dropdown("Target", options.map((name) => [name, label(name)]), target, (name) => this.app.set({ target: name, keypoint: null })),
      element("button", {
        type: "button", onclick: () => this.app.set({ image: target, target: context.state.image, keypoint: null, token: null }),
      }, "Swap"),
      note ? element("span", { class: "faint" }, note) : "",
      !note && !pairs.length ? element("span", { class: "faint" }, "No pair starts at this picture.") : "");
  }

  // The best match of a patch, as a probe takes it: the nearest patch, the first of equals.
  match(token) {
    const map = cosines(this.block.vector(token), this.otherBlock, this.cells);
    return { map, cell: strongest(map, 1)[0] };
  }

  isRight(index) {
    const [x, y] = this.right.center(this.matches[index].cell);
    const [a, b] = this.pair.target_px[index];
    return (x - a) ** 2 + (y - b) ** 2 <= this.pair.radius_px ** 2;
  }

  showPoints() {
    if (!this.pair) {
      this.points.replaceChildren();
      return;
    }
    const right = this.matches.filter((_, index) => this.isRight(index)).length;
    const { state } = this.context;
    refill(this.points,
      element("h3", {}, `Keypoints: ${right} of ${this.matches.length} within the circle`),
      element("p", { class: "faint" }, "The circle is a tenth of the longer side of the object's box, as PCK at 0.1 has it."),
      element("div", { class: "chips" }, this.pair.names.map((name, index) => element("button", {
        type: "button", class: `chip ${this.isRight(index) ? "right" : "wrong"}`, "aria-pressed": String(state.keypoint === index),
        onclick: () => this.app.set({ keypoint: index, token: this.left.tokenOver(this.pair.source_px[index]) }),
      }, `${this.isRight(index) ? "✓" : "✗"} keypoint ${name}`))));
  }

  paint(token) {
    const { grid, state } = this.context;
    const { map, cell } = this.match(token);
    const range = limits(map, state.range);
    this.right.setMap(map, range, state.colors);
    this.left.setMap(null);
    this.legend.set(range, state.colors);
    const index = this.keypointAt(token);
    this.left.setMarks([...this.keypointMarks(this.left, "source_px", index), ...this.left.cellMark(cellOf(grid, token), "query")]);
    const marks = [...this.keypointMarks(this.right, "target_px", index), ...this.right.cellMark(cell, "match")];
    let outcome = "";
    if (index !== -1) {
      const name = this.isRight(index) ? "right" : "wrong";
      marks.push(...this.right.circleMark(this.pair.target_px[index], this.pair.radius_px, `truth ${name}`),
        ...this.right.lineMark([this.right.center(cell), this.pair.target_px[index]], "error"));
      outcome = ` · keypoint ${this.pair.names[index]}: ${name === "right" ? "within" : "outside"} the circle`;
    }
    this.right.setMarks(marks);
    this.facts.textContent = `${placeOf(grid, token)} → ${placeOf(this.otherGrid, tokenOf(this.otherGrid, cell))}, cosine ${rounded(map[cell])}${outcome}`;
  }

  keypointAt(token) {
    if (!this.pair) return -1;
    const { keypoint } = this.context.state;
    const tokens = this.pair.source_px.map((point) => this.left.tokenOver(point));
    return tokens[keypoint] === token ? keypoint : tokens.indexOf(token);
  }

  // The true points of the pair on one of its pictures.
  keypointMarks(stage, points, chosen) {
    if (!this.pair) return [];
    const radius = 0.014 * Math.max(...stage.wh);
    return this.pair[points].flatMap((point, index) => stage.circleMark(point, radius, index === chosen ? "dot-mark chosen" : "dot-mark"));
  }
}
