// The viewer: one state, which the address holds, and a view of it.

import { COLORS, lookBehind } from "./colors.js";
import { Controls } from "./controls.js";
import { element } from "./dom.js";
import { FeaturesView } from "./features_view.js";
import { HeadsView } from "./heads_view.js";
import { Library } from "./source.js";
import { NearestView } from "./nearest_view.js";
import { PairView } from "./pair_view.js";
import { PictureView } from "./picture_view.js";
import { QuestionView } from "./question_view.js";
import { Rail } from "./rail.js";
import { isToken, middleOf, tokenBeside } from "./stage.js";
import { VIEWS } from "./state.js";
import { VideoView } from "./video_view.js";

const CLASSES = {
  picture: PictureView, heads: HeadsView, pair: PairView, nearest: NearestView, question: QuestionView, video: VideoView,
  features: FeaturesView,
};
const KEYS = [
  ["← ↑ ↓ →", "the patch"], ["[ ]", "layer"], [", .", "head"], ["k", "kind"], ["n p", "next or previous picture"],
  ["1 – 7", "view"], ["r", "range of the colors"], ["c", "colors"], ["Shift", "held: read values off the map"],
  ["/", "to the question, or to the filter of the pictures"], ["Esc", "out of either"], ["?", "these keys"],
];

export class Viewer {
  // source: what is asked; onchange: is told each new state.
  constructor(root, source, onchange = () => {}) {
    this.root = root;
    this.library = new Library(source);
    this.onchange = onchange;
    this.views = {};
    this.state = {};
    this.isShown = new Promise((resolve) => { this.tellShown = resolve; });
    this.rail = new Rail(this);
    this.controls = new Controls(this, () => this.help.showModal());
    this.note = element("p", { class: "note", role: "status", hidden: true });
    this.stand = element("main", { tabindex: -1 });
    this.help = element("dialog", { class: "help", "aria-label": "Keys" },
      element("h2", {}, "Keys"), element("dl", {}, KEYS.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, text)])),
      element("button", { type: "button", onclick: () => this.help.close() }, "Close"));
    root.classList.add("kvtool-viewer");
    root.replaceChildren(this.controls.header, this.controls.tools, this.note, element("div", { class: "body" }, this.rail.root, this.stand), this.help);
    root.addEventListener("keydown", (event) => this.pressed(event));
  }

  async start(state) {
    this.catalog = await this.library.record("catalog", {});
    await this.restore(state);
  }

  // Show a state as a whole, e.g. that of an address.
  async restore(state) {
    this.state = { range: "auto", colors: "viridis", ...state };
    await this.update();
  }

  set(changes) {
    // A patch that is chosen by itself is no keypoint any more.
    const point = "token" in changes && !("keypoint" in changes) ? { keypoint: null } : {};
    // A keypoint that is left takes its patch along.
    const patch = changes.keypoint === null && Number.isInteger(this.state.keypoint) ? { token: null } : {};
    this.state = { ...this.state, ...point, ...patch, ...changes };
    return this.update();
  }

  isCurrent(context) {
    return this.context === context;
  }

  async update() {
    const turn = {};
    this.turn = turn;
    this.isSettled = false;
    try {
      const context = await this.completed(this.state);
      if (this.turn !== turn) return;
      this.context = context;
      // A patch that nobody chose is no part of the address: a view may know a better one.
      this.state = { ...context.state, token: context.isChosen ? context.state.token : null };
      this.onchange(this.state);
      this.showNote(...context.lacking);
      this.controls.show(context);
      this.rail.show(context);
      const view = this.view(context.state.view);
      this.change(view.root);
      this.fills = [];
      await view.show(context);
      if (this.isCurrent(context)) {
        this.root.dataset.shown = context.state.view;
        this.shownAt = performance.now();
        this.tellShown();
      }
      await Promise.all(this.fills);
    } catch (error) {
      if (this.turn === turn) this.showNote(error.message);
    } finally {
      // Nothing is on its way any more.
      if (this.turn === turn) this.isSettled = true;
    }
  }

  // Show another view; where the last one had the focus, keys go on to be heard.
  change(node) {
    if (this.stand.firstChild === node) return;
    const isFocused = this.stand.contains(this.root.getRootNode().activeElement);
    this.stand.replaceChildren(node);
    if (isFocused) this.stand.focus({ preventScroll: true });
  }

  view(name) {
    this.views[name] ??= new CLASSES[name](this);
    return this.views[name];
  }

  // Fill in what a state leaves open, and replace what the store does not have.
  async completed(given) {
    const lacking = [];
    const choose = (name, options, fallback) => {
      if (options.includes(given[name])) return given[name];
      if (given[name] !== undefined && given[name] !== null) lacking.push(`There is no ${name} ${given[name]} here.`);
      return fallback;
    };
    const { runs } = this.catalog;
    const fits = (entry) => entry.run === given.run && (!given.store || entry.store === given.store);
    const entry = runs.find(fits) ?? runs[0];
    if (given.run && entry.run !== given.run) lacking.push(`There is no run ${given.run} here.`);
    const scope = { store: entry.store, run: entry.run };
    const run = await this.library.record("run", scope);
    if (!run.images.length) throw new Error(`run ${entry.run} holds no image yet`);
    if (!run.kinds.length) throw new Error(`run ${entry.run} holds no vectors`);
    const image = choose("image", run.images, run.images[0]);
    const names = run.kinds.map((kind) => kind.kind);
    const kindName = choose("kind", names, names.includes("value") ? "value" : names[0]);
    const kind = run.kinds.find((entry) => entry.kind === kindName);
    const layer = choose("layer", kind.layers, kind.layers[Math.floor(kind.layers.length / 2)]);
    const heads = kind.heads[kind.layers.indexOf(layer)];
    const kv_head = choose("kv_head", Array.from({ length: heads }, (_, i) => i), 0);
    const record = await this.imageRecord(scope, image);
    const grid = this.gridOf(record, kindName);
    const isChosen = isToken(grid, given.token);
    const state = {
      ...given, ...scope, image, kind: kindName, layer, kv_head,
      view: choose("view", VIEWS.map(([name]) => name), "picture"),
      token: isChosen ? given.token : middleOf(grid),
      range: choose("range", ["auto", "full"], "auto"),
      colors: choose("colors", COLORS, "viridis"),
    };
    const where = { ...scope, image, version: record.version };
    return { state, catalog: this.catalog, run, kind, heads, image: record, grid, isChosen, where, lacking, library: this.library };
  }

  imageRecord(scope, image) {
    const { store, run } = scope.where ?? scope;
    return this.library.record("image", { store, run, image });
  }

  record(resource, context) {
    return this.library.record(resource, { store: context.where.store, run: context.where.run });
  }

  async scores(context) {
    return (await this.record("scores", context)).scores;
  }

  // What comes behind a view that is shown: until then the page is not settled.
  follow(promise) {
    this.fills.push(promise);
  }

  gridOf(record, kind) {
    return record.grids[kind === "vision" ? "vision" : "value"] ?? Object.values(record.grids)[0];
  }

  // Put an image's picture on a stage; where it is gone, the map stands alone. The map does not
  // wait for it.
  fill(stage, context, grid, side) {
    stage.setGrid(context.image.wh_px, grid);
    const { store, run, image, version } = context.where;
    const parameters = { store, run, image, version, ...(side ? { side } : {}) };
    const key = JSON.stringify(parameters);
    if (stage.key === key) return;
    stage.expect(key);
    this.follow(this.library.picture("picture", parameters).then((picture) => {
      if (stage.key === key) stage.setPicture(picture);
    }));
  }

  // What a stage does with the pointer.
  pointing() {
    return {
      onhover: (token) => this.hover(token),
      onleave: () => this.hover(this.context.state.token),
      onpick: (token) => this.set({ token }),
    };
  }

  hover(token) {
    const view = this.view(this.state.view);
    if (!view.context || view.context !== this.context) return;
    if (this.isReading && view.read) view.read(token);
    else view.paint(token);
  }

  // What is to be said above the view, a line each.
  showNote(...lines) {
    this.note.hidden = !lines.length;
    this.note.replaceChildren(...lines.map((line) => element("div", {}, line)));
  }

  pressed(event) {
    this.isReading = event.key === "Shift";
    if (event.key === "Shift") {
      this.root.addEventListener("keyup", () => { this.isReading = false; }, { once: true });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !this.context) return;
    const field = event.target.closest?.("input, select, textarea, dialog");
    if (field?.matches("input") && event.key === "Escape") this.stand.focus({ preventScroll: true });
    if (field) return;
    const change = this.changeOf(event.key);
    if (!change) return;
    event.preventDefault();
    if (change === "help") this.help.showModal();
    else if (change === "field") (this.view(this.state.view).input ?? this.rail.filter).focus();
    else this.set(change);
  }

  changeOf(key) {
    const { state, run, kind, heads, grid } = this.context;
    const step = (list, value, by) => list[(list.indexOf(value) + by + list.length) % list.length];
    const image = (by) => ({ image: step(run.images, state.image, by), target: null, keypoint: null, feature: null });
    const token = tokenBeside(grid, state.token, key);
    if (token !== null) return { token };
    const changes = {
      "[": () => ({ layer: step(kind.layers, state.layer, -1) }), "]": () => ({ layer: step(kind.layers, state.layer, 1) }),
      ",": () => ({ kv_head: (state.kv_head + heads - 1) % heads }), ".": () => ({ kv_head: (state.kv_head + 1) % heads }),
      k: () => ({ kind: step(run.kinds.map((entry) => entry.kind), state.kind, 1) }),
      n: () => image(1), p: () => image(-1),
      "?": () => "help", "/": () => "field",
    };
    VIEWS.forEach(([name], at) => { changes[at + 1] = () => ({ view: name }); });
    return changes[key]?.() ?? lookBehind(key, state);
  }
}
