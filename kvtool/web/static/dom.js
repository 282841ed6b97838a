// Elements of the page. All text goes in as text nodes: no name of a file is ever markup.

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}

// A row of buttons of which one is pressed.
export function choices(label, options, onchoose) {
  const buttons = new Map(options.map(([value, text]) => [value, element("button", {
    type: "button", onclick: () => onchoose(value),
  }, text)]));
  return {
    root: element("div", { class: "choices", role: "group", "aria-label": label }, ...buttons.values()),
    choose(chosen) {
      for (const [value, button] of buttons) button.setAttribute("aria-pressed", String(value === chosen));
    },
  };
}

export function dropdown(label, options, chosen, onchoose) {
  const list = element("select", { "aria-label": label, onchange: () => onchoose(list.value) },
    options.map(([value, text]) => element("option", { value }, text)));
  list.value = chosen;
  return list;
}

const FOCUSABLE = "button, select, input";

// Put other nodes into a parent. Where one of the last had the focus, its successor at the same
// place has it, or the view as a whole, so that keys go on to be heard.
export function refill(parent, ...nodes) {
  const { activeElement } = parent.getRootNode();
  const at = [...parent.querySelectorAll(FOCUSABLE)].indexOf(activeElement);
  parent.replaceChildren(...nodes);
  if (at === -1) return;
  const successor = parent.querySelectorAll(FOCUSABLE)[at] ?? parent.closest("main");
  successor?.focus({ preventScroll: true });
}
