// The page of the server: the viewer over the whole window, its state in the address.

import { formatState, parseState } from "./state.js";
import { ServerSource } from "./source.js";
import { Viewer } from "./viewer.js";

const base = new URL(".", location.href).pathname;
let latest = location.hash;
let waiting = 0;

const viewer = new Viewer(document.getElementById("viewer"), new ServerSource(base), (state) => {
  const { image, run, view } = parseState(latest);
  const fragment = formatState(state);
  if (fragment === latest) return;
  // Going back leads to the last picture, run or view, not through every patch.
  const isStep = latest !== "" && (image !== state.image || run !== state.run || view !== state.view);
  latest = fragment;
  clearTimeout(waiting);
  if (isStep) history.pushState(null, "", fragment);
  // A key that is held changes the state more often than a browser takes addresses.
  else waiting = setTimeout(() => history.replaceState(null, "", fragment), 100);
});

addEventListener("popstate", () => {
  latest = location.hash;
  viewer.restore(parseState(latest));
});
document.addEventListener("keydown", (event) => {
  // Keys work wherever the focus is.
  if (event.target === document.body) viewer.pressed(event);
});
viewer.root.viewer = viewer;
viewer.start(parseState(latest)).catch((error) => viewer.showNote(error.message));
