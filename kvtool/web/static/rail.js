// The list of pictures: what fits a filter, with small pictures that are fetched when they are seen.

import { element } from "./dom.js";

const MOST = 200;

export class Rail {
  constructor(app) {
    this.app = app;
    this.filter = element("input", {
      type: "search", placeholder: "Filter", "aria-label": "Filter pictures by name", oninput: () => this.list(),
    });
    this.items = element("div", { class: "items", role: "group", "aria-label": "Pictures", onkeydown: (event) => this.pressed(event) });
    this.more = element("p", { class: "faint more" });
    this.root = element("nav", { class: "rail", "aria-label": "Pictures" }, this.filter, this.items, this.more);
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.load(entry.target);
    }, { rootMargin: "200px" });
    this.key = "";
  }

  show(context) {
    this.context = context;
    const key = `${context.where.store}\n${context.where.run}`;
    if (key !== this.key) {
      this.key = key;
      this.list();
    } else if (!this.buttons?.has(context.state.image)) this.list();
    this.choose(context.state.image);
  }

  list() {
    const { run, state } = this.context;
    const word = this.filter.value.toLowerCase();
    const names = word ? run.images.filter((name) => name.toLowerCase().includes(word)) : run.images;
    const first = Math.max(0, Math.min(names.indexOf(state.image) - MOST / 2, names.length - MOST));
    const listed = names.slice(first, first + MOST);
    this.seen.disconnect();
    this.buttons = new Map(listed.map((name) => [name, this.item(name)]));
    this.items.replaceChildren(...this.buttons.values());
    for (const button of this.buttons.values()) this.seen.observe(button);
    this.more.textContent = names.length > listed.length ? `${listed.length} of ${names.length} are listed` : "";
    this.choose(state.image);
  }

  item(name) {
    const button = element("button", {
      type: "button", class: "item", title: name, onclick: () => this.app.set({ image: name, target: null, keypoint: null, feature: null }),
    }, element("span", { class: "thumb" }), element("span", { class: "name" }, piecesOf(name)));
    button.dataset.image = name;
    return button;
  }

  // Tab comes to the chosen picture alone; arrows go on from there.
  pressed(event) {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...this.buttons.values()];
    buttons[buttons.indexOf(event.target) + by]?.focus();
  }

  async load(button) {
    this.seen.unobserve(button);
    // The first view comes before all small pictures.
    await this.app.isShown;
    const { store, run } = this.context.where;
    const name = button.dataset.image;
    this.app.library.picture("picture", { store, run, image: name, side: 96 }).then(({ url }) => {
      if (url) button.firstChild.append(element("img", { src: url, alt: "" }));
    }, () => {});
  }

  choose(image) {
    const first = this.buttons.has(image) ? image : this.buttons.keys().next().value;
    for (const [name, button] of this.buttons) {
      button.tabIndex = name === first ? 0 : -1;
      const isChosen = name === image;
      if (isChosen && button.getAttribute("aria-current") !== "true") button.scrollIntoView({ block: "nearest", inline: "nearest" });
      if (isChosen) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}

const LONGEST_PIECE = 18; // characters that a line of the list has room for

// A name in pieces between which a line may break: behind a folder, else behind a word or number.
function piecesOf(name) {
  const folders = name.match(/[^/]*[/]|[^/]+/g) ?? [];
  const pieces = folders.flatMap((piece) => (piece.length > LONGEST_PIECE ? piece.match(/[^_-]*[_-]|[^_-]+/g) : piece));
  return pieces.map((piece) => element("span", { class: "name-piece" }, piece));
}
