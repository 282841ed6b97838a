// The whole data set: the patches of other pictures that are nearest to the one under the pointer.

import { cellOf, Stage } from "./stage.js";
import { blockName, notice, placeOf } from "./panel.js";
import { element } from "./dom.js";

const PATCHES = 5; // a piece is so many patches wide

export class NearestView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("Picture", app.pointing());
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.list = element("div", { class: "pieces" });
    this.root = element("div", { class: "view split wide" },
      element("div", { class: "side" }, this.stage.root, this.title, this.facts,
        element("p", { class: "faint" }, "Nearest patches of all other pictures by cosine, the nearest first. The first query of a block reads all of it.")),
      element("div", { class: "main" }, this.list));
  }

  async show(context) {
    this.context = context;
    this.title.textContent = blockName(context.state);
    this.stage.setMap(null);
    this.app.fill(this.stage, context, context.grid);
    await this.ask(context.state.token);
  }

  paint(token) {
    const { grid } = this.context;
    this.stage.setMarks(this.stage.cellMark(cellOf(grid, token), "query"));
    this.facts.textContent = `${placeOf(grid, token)} · token ${token}`;
    clearTimeout(this.timer);
    // A pointer that passes asks nothing.
    this.timer = setTimeout(() => this.ask(token), 40);
  }

  async ask(token) {
    const { context } = this;
    const { state, where, library, grid } = context;
    clearTimeout(this.timer);
    this.pieces?.abort();
    this.pieces = new AbortController();
    this.asked = token;
    this.stage.setMarks(this.stage.cellMark(cellOf(grid, token), "query"));
    this.facts.textContent = `${placeOf(grid, token)} · token ${token}`;
    this.list.classList.add("busy");
    const parameters = { ...where, kind: state.kind, layer: state.layer, kv_head: state.kv_head, token };
    const answer = await library.record("nearest", parameters).catch((error) => ({ rows: [], note: error.message }));
    if (this.asked !== token || this.context !== context) return;
    this.list.classList.remove("busy");
    this.list.replaceChildren(answer.note ? notice(answer.note) : "", ...answer.rows.map((row) => this.piece(row)));
  }

  piece(row) {
    const { library, where } = this.context;
    const [box, patch] = boxOf(row);
    const image = element("img", { alt: "", width: 96, height: 96 });
    const mark = element("span", { class: "patch" });
    Object.assign(mark.style, patch);
    library.picture("piece", { store: where.store, run: where.run, image: row.image, version: row.version, box: box.join(",") }, this.pieces.signal).then(({ url }) => {
      if (url) image.src = url;
      else image.classList.add("absent");
    }, () => image.classList.add("absent"));
    return element("button", {
      type: "button", class: "piece", title: row.image,
      "aria-label": `${row.image}, row ${row.row}, column ${row.col}, cosine ${row.score.toFixed(3)}`,
      onclick: () => this.app.set({ image: row.image, token: row.token }),
    }, element("span", { class: "crop" }, image, mark), element("span", { class: "number" }, row.score.toFixed(3)));
  }
}

// A square around a patch inside its picture, and where the patch lies in it.
function boxOf(row) {
  const [width, height] = row.wh_px;
  const side = Math.min(PATCHES * Math.max(...row.patch_px), width, height);
  const left = Math.min(Math.max(row.center_px[0] - side / 2, 0), width - side);
  const top = Math.min(Math.max(row.center_px[1] - side / 2, 0), height - side);
  const share = (value) => `${(100 * value) / side}%`;
  return [[left, top, left + side, top + side].map((value) => value.toFixed(2)), {
    left: share(row.center_px[0] - row.patch_px[0] / 2 - left),
    top: share(row.center_px[1] - row.patch_px[1] / 2 - top),
    width: share(row.patch_px[0]),
    height: share(row.patch_px[1]),
  }];
}
