// A question about the picture: the answer, where its last token looks, and what blocked heads change.

import { decode, limits, cellsOf } from "./cosine.js";
import { legend, notice } from "./panel.js";
import { element } from "./dom.js";
import { HeadGrid } from "./head_grid.js";
import { Stage } from "./stage.js";

const parseHeads = (text) => (text ? text.split(",") : []);

export class QuestionView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("Attention of the question's last token");
    this.input = element("input", {
      type: "text", "aria-label": "Question", placeholder: "What is in the picture?", maxlength: 1000,
    });
    this.form = element("form", { class: "ask" }, this.input, element("button", { type: "submit", class: "primary" }, "Ask"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.input.value.trim()) app.set({ question: this.input.value.trim() });
    });
    this.answers = element("div", { class: "answers", "aria-live": "polite" });
    this.facts = element("p", { class: "facts" });
    this.legend = legend("attention");
    this.block = element("button", { type: "button", onclick: () => this.toggle() }, "Block");
    this.clear = element("button", { type: "button", onclick: () => app.set({ blocked: null }) }, "Unblock all");
    this.grid = new HeadGrid("Attention of all heads", "q", (layer, q_head) => app.set({ layer, q_head }));
    this.root = element("div", { class: "view split wide" },
      element("div", { class: "side" }, this.stage.root, this.facts, this.legend.root,
        element("div", { class: "bar-line" }, this.block, this.clear)),
      element("div", { class: "main" }, this.form, this.answers, this.grid.scroll));
  }

  get kvHead() {
    const { state, run } = this.context;
    const heads = run.kinds.find((kind) => kind.kind === "key");
    const count = heads?.heads[heads.layers.indexOf(state.layer)] ?? run.geometry.kv_heads;
    return Math.floor(this.qHead / Math.max(1, run.geometry.q_heads / count));
  }

  get qHead() {
    const { state, run } = this.context;
    return Math.min(state.q_head ?? 0, run.geometry.q_heads - 1);
  }

  async show(context) {
    const { app } = this;
    const { state } = context;
    this.context = context;
    if (document.activeElement !== this.input) this.input.value = state.question ?? "";
    this.stage.setMap(null);
    app.fill(this.stage, context, context.grid);
    const isAsked = Boolean(state.question) && Boolean(context.catalog.model);
    this.grid.scroll.hidden = !isAsked;
    for (const node of [this.block, this.clear, this.legend.root]) node.hidden = !isAsked;
    this.facts.textContent = "";
    if (!context.catalog.model) {
      this.answers.replaceChildren(notice(`Questions need the model, which was not named: kvtool serve STORE --model ${context.run.model}`));
      return;
    }
    if (!isAsked) {
      this.answers.replaceChildren(element("p", { class: "faint" }, "Ask something about this picture. The model goes on from the stored keys and values; the picture is not run again."));
      return;
    }
    this.answers.classList.add("busy");
    if (!this.answers.childElementCount) this.answers.replaceChildren(element("p", { class: "faint" }, "Asking…"));
    try {
      await this.ask(context);
    } catch (error) {
      if (app.isCurrent(context)) {
        for (const node of [this.grid.scroll, this.block, this.clear, this.legend.root]) node.hidden = true;
        this.answers.replaceChildren(notice(error.message));
      }
    }
    this.answers.classList.remove("busy");
  }

  async ask(context) {
    const { library, where, state } = context;
    const { question } = state;
    const plain = library.record("question", { ...where, question });
    const attention = library.remembered(library.records, "attention", { ...where, question }, (reply) => ({
      shape: reply.labels.shape.split(",").map(Number), values: decode(reply.body, reply.labels.dtype),
    }));
    const [answer, maps] = [await plain, await attention];
    const blocked = parseHeads(state.blocked);
    const changed = blocked.length ? await library.record("question", { ...where, question, blocked: blocked.join(",") }) : null;
    if (!this.app.isCurrent(context)) return;
    this.showAnswers(answer, changed, blocked);
    this.maps = maps;
    this.showMaps(context, blocked);
  }

  showAnswers(answer, changed, blocked) {
    const line = (label, text, name) => element("div", { class: `answer ${name}` }, element("span", { class: "faint" }, label),
      element("strong", {}, text === null ? "no answer: its numbers are not finite" : text || "(no word: the model ended at once)"));
    this.answers.replaceChildren(line("Answer", answer.answer, ""),
      changed ? line(`With ${blocked.length} ${blocked.length === 1 ? "head" : "heads"} blocked`, changed.answer, changed.answer === answer.answer ? "same" : "changed") : "");
  }

  showMaps(context, blocked) {
    const { run, state, grid } = context;
    const keys = run.kinds.find((kind) => kind.kind === "key");
    const layers = keys.layers;
    const [, heads, tokens] = this.maps.shape;
    const cells = cellsOf(grid);
    this.grid.build(layers, layers.map(() => heads));
    layers.forEach((layer, at) => {
      for (let head = 0; head < heads; head += 1) {
        const start = (at * heads + head) * tokens;
        const map = Float32Array.from(cells, (token) => this.maps.values[start + token]);
        const range = [0, limits(map, "auto")[1] || 1];
        this.grid.paint(layer, head, map, grid.grid, range, state.colors);
        if (layer === state.layer && head === this.qHead) {
          this.stage.setMap(map, range, state.colors);
          this.legend.set(range, state.colors, 4);
          const all = this.maps.values.subarray(start, start + tokens).reduce((sum, value) => sum + value, 0);
          this.facts.textContent = `layer ${layer}, query head ${head} (KV head ${this.kvHead}): ${(100 * all).toFixed(1)} % of its attention on the picture`;
        }
      }
    });
    this.grid.choose(state.layer, this.qHead);
    const group = Math.max(1, run.geometry.q_heads / run.geometry.kv_heads);
    this.grid.mark("blocked", (layer, head) => blocked.includes(`${layer}:${Math.floor(head / group)}`));
    const name = `${state.layer}:${this.kvHead}`;
    this.block.textContent = `${blocked.includes(name) ? "Unblock" : "Block"} KV head ${this.kvHead} of layer ${state.layer}`;
    this.clear.hidden = !blocked.length;
  }

  toggle() {
    const blocked = parseHeads(this.context.state.blocked);
    const name = `${this.context.state.layer}:${this.kvHead}`;
    const rest = blocked.filter((entry) => entry !== name);
    this.app.set({ blocked: (rest.length === blocked.length ? [...blocked, name] : rest).join(",") || null });
  }
}
