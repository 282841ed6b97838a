// A video: where the patch under the pointer in its first frame is in the others.

import { cellOf, Stage } from "./stage.js";
import { cellsOf, cosines, limits, strongest } from "./cosine.js";
import { blockName, notice, placeOf } from "./panel.js";
import { dropdown, element, refill } from "./dom.js";

const MOST_FRAMES = 32;

export class VideoView {
  constructor(app) {
    this.app = app;
    this.stage = new Stage("First frame", app.pointing());
    this.title = element("h2");
    this.facts = element("p", { class: "facts", "aria-live": "polite" });
    this.choice = element("div", { class: "bar-line" });
    this.strip = element("div", { class: "frames" });
    this.root = element("div", { class: "view split wide" },
      element("div", { class: "side" }, this.stage.root, this.title, this.facts,
        element("p", { class: "faint" }, "In each frame the patch most similar to the one in the first frame; the line joins them.")),
      element("div", { class: "main" }, this.choice, this.strip));
    this.frames = [];
  }

  async show(context) {
    const { app } = this;
    const { state, library, where, run } = context;
    this.frames = [];
    const { videos, note } = await app.record("videos", context);
    if (!app.isCurrent(context)) return;
    const video = videos.find((entry) => entry.frames.includes(state.image)) ?? videos[0];
    if (!video) {
      this.context = null;
      this.choice.replaceChildren(notice(note ?? "This run holds no video with two frames or more."));
      this.strip.replaceChildren();
      this.stage.setMap(null);
      this.stage.setMarks([]);
      app.fill(this.stage, context, context.grid);
      return;
    }
    refill(this.choice, element("span", { class: "faint" }, "Video"),
      dropdown("Video", videos.map((entry) => [entry.frames[0], entry.video]), video.frames[0], (image) => app.set({ image, token: null })));
    const ids = spread(video.frames, MOST_FRAMES);
    if (ids.length < video.frames.length) this.choice.append(element("span", { class: "faint" }, `${ids.length} of ${video.frames.length} frames`));
    const frames = await Promise.all(ids.map(async (id, position) => {
      const image = await app.imageRecord(context, id);
      const stage = position ? new Stage(`Frame ${id}`) : this.stage;
      const frame = { id, stage, image, grid: app.gridOf(image, state.kind) };
      const frameWhere = { ...where, image: id, version: image.version };
      app.fill(stage, { ...context, image, where: frameWhere }, frame.grid, position ? 320 : undefined);
      const block = await library.block(frameWhere, state.kind, state.layer, state.kv_head);
      return { ...frame, block, cells: cellsOf(frame.grid) };
    }));
    if (!app.isCurrent(context)) return;
    Object.assign(this, { context, frames });
    this.title.textContent = blockName(state);
    this.strip.replaceChildren(...frames.slice(1).map((frame) => {
      frame.stage.setTitle(frame.id.split("/").pop());
      return frame.stage.root;
    }));
    this.paint(state.token);
  }

  paint(token) {
    if (!this.context || !this.frames.length) return;
    const { state } = this.context;
    const [first, ...others] = this.frames;
    const query = first.block.vector(token);
    const track = [first.stage.center(cellOf(first.grid, token))];
    for (const frame of others) {
      const map = cosines(query, frame.block, frame.cells);
      const [cell] = strongest(map, 1);
      frame.stage.setMap(map, limits(map, state.range), state.colors);
      frame.stage.setMarks(frame.stage.cellMark(cell, "match"));
      track.push(frame.stage.center(cell));
    }
    first.stage.setMap(null);
    first.stage.setMarks([...first.stage.lineMark(track, "track"), ...first.stage.cellMark(cellOf(first.grid, token), "query")]);
    this.facts.textContent = `${placeOf(first.grid, token)} of ${first.id}`;
  }
}

function spread(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))]);
}
