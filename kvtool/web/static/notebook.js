// The viewer in a cell of a notebook, as anywidget loads it.

import { formatState, parseState } from "./state.js";
import { Viewer } from "./viewer.js";
import { WidgetSource } from "./source.js";

export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.style.height = `${model.get("height")}px`;
    el.append(root);
    let latest = model.get("state").replace(/^#/, "");
    const viewer = new Viewer(root, new WidgetSource(model), (state) => {
      latest = formatState(state).slice(1);
      model.set("state", latest);
      model.save_changes();
    });
    root.viewer = viewer;
    // A state that Python sets is shown.
    model.on("change:state", () => {
      if (model.get("state") !== latest) viewer.restore(parseState(model.get("state")));
    });
    viewer.start(parseState(latest)).catch((error) => viewer.showNote(error.message));
  },
};
