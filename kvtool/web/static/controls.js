// The controls above a view: which run, which view, which block, and how numbers become colors.

import { choices, dropdown, element } from "./dom.js";
import { COLORS } from "./colors.js";
import { VIEWS } from "./state.js";

const WITHOUT_BLOCK = ["question", "features"]; // of one head of queries, or of none
const WITHOUT_COLORS = ["nearest"];

export class Controls {
  constructor(app, onhelp) {
    this.app = app;
    this.onhelp = onhelp;
    this.header = element("header", { class: "top" });
    this.tools = element("div", { class: "tools" });
    this.shape = "";
  }

  // Controls are built anew only where other ones are needed: one that is being dragged stays.
  show(context) {
    const { state, run, kind, heads, catalog } = context;
    if (!this.header.childElementCount) this.buildHeader(catalog.runs);
    const shape = JSON.stringify([state.store, run.run, state.kind, kind.layers, heads, WITHOUT_BLOCK.includes(state.view), WITHOUT_COLORS.includes(state.view)]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.buildTools(context);
    }
    this.runs.value = String(catalog.runs.findIndex((entry) => entry.run === state.run && entry.store === state.store));
    for (const [name, tab] of this.tabs) {
      if (name === state.view) {
        tab.setAttribute("aria-current", "page");
        tab.scrollIntoView({ block: "nearest", inline: "nearest" });
      } else tab.removeAttribute("aria-current");
    }
    for (const refresh of this.refreshers) refresh(state);
  }

  buildHeader(runs) {
    const several = new Set(runs.map((entry) => entry.store)).size > 1;
    const names = runs.map((entry, at) => [String(at), several ? `${entry.store} · ${entry.run}` : entry.run]);
    this.runs = dropdown("Run", names, "0", (at) => this.app.set({
      store: runs[at].store, run: runs[at].run, image: null, token: null, target: null, keypoint: null, feature: null,
      score: null, blocked: null,
    }));
    this.tabs = new Map(VIEWS.map(([name, text], at) => [name, element("button", {
      type: "button", class: "tab", title: `key ${at + 1}`, onclick: () => this.app.set({ view: name }),
    }, text)]));
    this.header.replaceChildren(element("span", { class: "brand" }, "kvtool"), this.runs,
      element("nav", { class: "tabs", "aria-label": "Views" }, ...this.tabs.values()),
      element("button", { type: "button", class: "round", "aria-label": "Keys", title: "Keys (?)", onclick: this.onhelp }, "?"));
  }

  buildTools(context) {
    const { app } = this;
    this.refreshers = [];
    const chosen = (label, options, name) => {
      const group = choices(label, options, (value) => app.set({ [name]: value }));
      this.refreshers.push((state) => group.choose(state[name]));
      return group.root;
    };
    const { view } = context.state;
    const hasBlock = !WITHOUT_BLOCK.includes(view);
    const block = hasBlock ? this.blockTools(context, chosen) : [];
    const colors = WITHOUT_COLORS.includes(view) ? [] : [element("div", { class: "field" }, "Colors",
      hasBlock ? chosen("Range of the colors", [["auto", "auto"], ["full", "−1 to 1"]], "range") : "",
      chosen("Colors", COLORS.map((name) => [name, name]), "colors"))];
    this.tools.replaceChildren(...block, element("span", { class: "space" }), ...colors);
  }

  blockTools({ run, kind, heads }, chosen) {
    const tools = [chosen("Kind", run.kinds.map((entry) => [entry.kind, entry.kind]), "kind")];
    if (kind.layers.length > 1) tools.push(this.layerSlider(kind.layers));
    if (heads > 8) tools.push(this.headList(heads));
    else if (heads > 1) {
      const numbers = Array.from({ length: heads }, (_, head) => [head, String(head)]);
      tools.push(element("div", { class: "field" }, "Head", chosen("Head", numbers, "kv_head")));
    }
    return tools;
  }

  layerSlider(layers) {
    const slider = element("input", {
      type: "range", min: 0, max: layers.length - 1, "aria-label": "Layer",
      oninput: () => this.app.set({ layer: layers[Number(slider.value)] }),
    });
    const number = element("output");
    this.refreshers.push((state) => {
      slider.value = String(layers.indexOf(state.layer));
      slider.setAttribute("aria-valuetext", `layer ${state.layer}`);
      number.textContent = String(state.layer);
    });
    return element("label", { class: "field" }, "Layer", slider, number);
  }

  headList(heads) {
    const numbers = Array.from({ length: heads }, (_, head) => [String(head), String(head)]);
    const list = dropdown("Head", numbers, "0", (head) => this.app.set({ kv_head: Number(head) }));
    this.refreshers.push((state) => { list.value = String(state.kv_head); });
    return element("label", { class: "field" }, "Head", list);
  }
}
