// Pictures on a page of results, each with the vectors of one block: the picture view, which asks no
// server.

import { choices } from "./dom.js";
import { blocksOf, cellsOf, decode } from "./cosine.js";
import { lookBehind } from "./colors.js";
import { middleOf, tokenBeside } from "./stage.js";
import { PictureView } from "./picture_view.js";

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The page holds the vectors of the grid's cells alone: each goes to the place of its token.
async function blockOf({ vectors, dtype, dim, grid }) {
  const values = decode(await inflated(vectors), dtype);
  const cells = cellsOf(grid);
  const tokens = cells[cells.length - 1] + 1;
  const placed = new Float32Array(tokens * dim);
  cells.forEach((token, cell) => placed.set(values.subarray(cell * dim, (cell + 1) * dim), token * dim));
  return blocksOf(placed, tokens, dim)[0];
}

// What the view asks of a viewer, answered from the page.
class PagePictures {
  // block: kind, layer and kv_head; entries: pictures with their vectors; uris: pictures by name.
  constructor(root, block, entries, uris) {
    this.entries = entries;
    this.uris = uris;
    this.state = { ...block, image: entries[0].image, range: "auto", colors: "viridis" };
    this.view = new PictureView(this);
    this.choice = choices("Picture", entries.map(({ image }) => [image, image]), (image) => this.set({ image, token: undefined }));
    this.choice.root.hidden = entries.length < 2;
    root.classList.add("kvtool-viewer", "on-page");
    root.replaceChildren(this.choice.root, this.view.root);
    root.addEventListener("keydown", (event) => this.pressed(event));
  }

  set(changes) {
    this.state = { ...this.state, ...changes };
    return this.update();
  }

  async update() {
    const image = this.entries.find((entry) => entry.image === this.state.image);
    this.state.token ??= middleOf(image.grid);
    this.context = { state: this.state, library: this, where: image, image, grid: image.grid };
    this.choice.choose(image.image);
    await this.view.show(this.context);
  }

  isCurrent(context) {
    return this.context === context;
  }

  block(image) {
    image.block ??= blockOf(image);
    return image.block;
  }

  async scores() {
    return [];
  }

  follow() {}

  fill(stage, { image }, grid) {
    stage.setGrid(image.wh_px, grid);
    stage.setPicture({ url: this.uris[image.picture] });
  }

  pointing() {
    return {
      onhover: (token) => this.view.context === this.context && this.view.paint(token),
      onleave: () => this.view.context === this.context && this.view.paint(this.state.token),
      onpick: (token) => this.set({ token }),
    };
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const token = tokenBeside(this.context.grid, this.state.token, event.key);
    const change = token === null ? lookBehind(event.key, this.state) : { token };
    if (!change) return;
    event.preventDefault();
    this.set(change);
  }
}

window.tellMaps((root, block, entries, uris) => new PagePictures(root, block, entries, uris).update());
