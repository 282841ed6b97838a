// Features of sparse autoencoders on the picture, of which `kvtool sae` kept where they fire.

import { element, refill } from "./dom.js";
import { legend, notice } from "./panel.js";
import { Stage } from "./stage.js";

const nameOf = (feature) => `${feature.layer}:${feature.feature}`;

export class FeaturesView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("Feature");
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.legend = legend("activation");
    this.list = element("div", { class: "features" });
    this.root = element("div", { class: "view split" }, this.stage.root,
      element("aside", { class: "panel" }, this.title, this.facts, this.legend.root, this.list));
  }

  async show(context) {
    const { app } = this;
    const { state, library, where } = context;
    app.fill(this.stage, context, app.gridOf(context.image, "value"));
    const answer = await library.record("features", { store: where.store, run: where.run, image: where.image });
    if (!app.isCurrent(context)) return;
    const { features } = answer;
    this.legend.root.hidden = !features.length;
    if (!features.length) {
      this.showNone(answer.images);
      return;
    }
    const chosen = features.find((feature) => nameOf(feature) === state.feature) ?? features[0];
    this.paintFeature(chosen, state);
    refill(this.list, element("h3", {}, "Strongest features of this picture"), ...features.map((feature) => element("button", {
      type: "button", class: "feature", "aria-pressed": String(feature === chosen),
      onclick: () => app.set({ feature: nameOf(feature) }),
    }, element("span", {}, `layer ${feature.layer} · feature ${feature.feature}`),
    element("span", { class: "number" }, feature.activation.toPrecision(3)),
    element("span", { class: "words faint" }, feature.description || feature.words.join(" · ") || "no words"))));
  }

  paintFeature(feature, state) {
    const [rows, cols] = feature.grid;
    // Where it does not fire, the picture shows.
    const map = new Float32Array(rows * cols).fill(NaN);
    feature.cells.forEach((cell, at) => { map[cell] = feature.activations[at] || NaN; });
    const range = [0, feature.activation || 1];
    this.stage.setMap(map, range, state.colors);
    this.stage.setMarks([]);
    this.legend.set(range, state.colors, 1);
    this.title.textContent = `Layer ${feature.layer}, feature ${feature.feature}`;
    const words = feature.words.length ? ` · fires on ${feature.words.map((word) => `“${word}”`).join(", ")}` : "";
    this.facts.textContent = `${feature.description ?? "no description"}${words} · in ${(100 * feature.presence).toFixed(0)} % of the pictures`;
  }

  showNone(images) {
    this.stage.setMap(null);
    this.title.textContent = "No features of this picture";
    this.facts.textContent = "";
    refill(this.list, ...(images.length
      ? [element("p", { class: "faint" }, "kvtool sae kept features of these pictures:"),
        element("div", { class: "chips" }, images.map((image) => element("button", { type: "button", class: "chip", onclick: () => this.app.set({ image, token: null }) }, image)))]
      : [notice("No result of this run holds features: kvtool sae STORE --sae FOLDER")]));
  }
}
