// What is shown, as the part of the address behind "#": a link to every state.

export const VIEWS = [
  ["picture", "Picture"],
  ["heads", "All heads"],
  ["pair", "Pair"],
  ["nearest", "Nearest patches"],
  ["question", "Question"],
  ["video", "Video"],
  ["features", "Features"],
];

const NUMBERS = ["layer", "kv_head", "token", "keypoint", "q_head"];
const TEXTS = [
  "view", "store", "run", "image", "kind", "target", "score", "question", "blocked", "feature",
  "range", "colors",
];
const ORDER = [
  "view", "store", "run", "image", "kind", "layer", "kv_head", "token", "target", "keypoint",
  "score", "question", "q_head", "blocked", "feature", "range", "colors",
];

export function parseState(fragment) {
  const members = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = {};
  for (const name of TEXTS) if (members.get(name)) state[name] = members.get(name);
  for (const name of NUMBERS) {
    const text = members.get(name);
    if (text !== null && /^\d{1,9}$/.test(text)) state[name] = Number(text);
  }
  return state;
}

export function formatState(state) {
  const members = new URLSearchParams();
  for (const name of ORDER) {
    const value = state[name];
    if (value !== undefined && value !== null && value !== "") members.set(name, String(value));
  }
  return `#${members}`;
}
