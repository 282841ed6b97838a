// --- tables are sorted by a click on a column's name: up, down, and as they were

const rowsAsWritten = new WeakMap();
const numberIn = (text) => (/^[+-]?[\d.]/.test(text) ? parseFloat(text) : NaN);

function compare(a, b) {
  const [x, y] = [numberIn(a), numberIn(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}

function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const heads = table.tHead.rows[0].cells;
  if (!heads[column]) return;
  if (!rowsAsWritten.has(table)) rowsAsWritten.set(table, [...body.rows]);
  const rows = [...rowsAsWritten.get(table)];
  const text = (row) => row.cells[column].textContent.trim();
  const sign = direction === "down" ? -1 : 1;
  // What is empty stays at the end.
  if (direction) rows.sort((a, b) => (!text(a) - !text(b)) || sign * compare(text(a), text(b)));
  body.append(...rows);
  for (const head of heads) head.removeAttribute("aria-sort");
  if (direction) heads[column].setAttribute("aria-sort", direction === "up" ? "ascending" : "descending");
}

function sortOf(table) {
  const head = table.querySelector("th[aria-sort]");
  return head && { column: head.cellIndex, direction: head.getAttribute("aria-sort") === "ascending" ? "up" : "down" };
}

const NEXT_SORT = { undefined: "up", up: "down", down: "" };

for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = element("button", head.textContent, { type: "button", class: "sort" });
  if (!head.textContent) button.setAttribute("aria-label", "name");
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const table = head.closest("table");
    const sort = sortOf(table);
    sortTable(table, head.cellIndex, NEXT_SORT[sort?.column === head.cellIndex ? sort.direction : undefined]);
    keepState();
  });
}

// --- a link to every state: #anchor&open=r0,runs&block=r0:value/2/1&sort=overview:3:down

let anchor = "";

function stateOf(place) {
  const state = new URLSearchParams();
  const open = [...document.querySelectorAll("details[id][open]")].map((fold) => fold.id);
  if (open.length) state.set("open", open.join(","));
  for (const [article, block] of chosen) {
    if (block !== data.blocks[article].best?.join("/")) state.append("block", `${article}:${block}`);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const sort = sortOf(table);
    if (sort) state.append("sort", `${table.dataset.table}:${sort.column}:${sort.direction}`);
  }
  return `#${[place, state.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/")].filter((part) => part).join("&")}`;
}

function keepState() {
  const hash = stateOf(anchor);
  if (hash !== (location.hash || "#")) history.replaceState(null, "", hash === "#" ? location.href.split("#")[0] : hash);
}

function reveal(node) {
  for (let fold = node?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

function restoreState() {
  const parts = location.hash.slice(1).split("&");
  anchor = parts[0].includes("=") ? "" : parts.shift();
  const state = new URLSearchParams(parts.join("&"));
  if (parts.length) {
    const open = (state.get("open") ?? "").split(",");
    for (const fold of document.querySelectorAll("details[id]")) fold.open = open.includes(fold.id);
  }
  for (const entry of state.getAll("block")) {
    const [article, block = ""] = entry.split(":");
    showBlock(article, block);
  }
  for (const entry of state.getAll("sort")) {
    const [name, column, direction] = entry.split(":");
    const table = [...document.querySelectorAll("table.sortable")].find((candidate) => candidate.dataset.table === name);
    if (table) sortTable(table, Number(column), direction);
  }
  const place = document.getElementById(anchor);
  if (!place) anchor = "";
  if (place?.matches("details")) place.open = true;
  reveal(place);
  place?.scrollIntoView();
  keepState();
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches("details")) keepState();
}, true);
window.addEventListener("hashchange", restoreState);

// --- copy: links, commands, tables

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where a page from disk may not write to the clipboard itself.
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1200);
}

function addCopy(parent, label, name, text) {
  const button = element("button", label, { type: "button", class: "small-button copy", "aria-label": name });
  button.addEventListener("click", () => copy(text(), button));
  parent.append(button);
}

for (const block of document.querySelectorAll("pre")) addCopy(block, "Copy", "Copy this text", () => block.querySelector("code").textContent);
for (const tools of document.querySelectorAll(".table .tools")) {
  const table = tools.closest("figure").querySelector("table");
  addCopy(tools, "Copy", "Copy this table", () => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t")).join("\n"));
}
for (const panel of document.querySelectorAll(".panel")) {
  addCopy(panel.querySelector("h3"), "Link", "Copy a link to this, as it is now", () => location.href.split("#")[0] + stateOf(panel.id));
}

// --- pictures enlarge

const viewer = document.getElementById("viewer");
let gallery = [];
let position = 0;

function showPicture(index) {
  position = (index + gallery.length) % gallery.length;
  const small = gallery[position].querySelector("img");
  const image = element("img", undefined, { src: small.src, alt: small.alt });
  viewer.querySelector("img")?.remove();
  viewer.querySelector("figure").prepend(image);
  image.style.width = `min(92vw, ${(80 * small.width) / small.height}vh)`;
  viewer.querySelector("figcaption").textContent = gallery.length > 1 ? `${small.alt} (${position + 1} of ${gallery.length})` : small.alt;
  for (const button of viewer.querySelectorAll("[data-step]")) button.hidden = gallery.length < 2;
}

document.addEventListener("click", (event) => {
  const zoom = event.target.closest(".zoom");
  if (zoom) {
    gallery = [...(zoom.closest("[data-gallery]") ?? zoom.parentElement).querySelectorAll(".zoom")];
    showPicture(gallery.indexOf(zoom));
    viewer.showModal();
  }
  const step = event.target.closest("[data-step]");
  if (step) showPicture(position + Number(step.dataset.step));
  if (event.target === viewer || event.target.closest("[data-close]")) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") showPicture(position + (event.key === "ArrowLeft" ? -1 : 1));
});

// --- the outline marks where the reader is

const entries = [...document.querySelectorAll("nav a")].map((link) => [link, document.getElementById(link.hash.slice(1))]);

function markOutline() {
  const passed = entries.filter(([, target]) => target.getBoundingClientRect().top < 60);
  const current = passed.reduce((last, entry) => (!last || entry[1].getBoundingClientRect().top >= last[1].getBoundingClientRect().top ? entry : last), entries[0]);
  for (const [link] of entries) {
    if (link === current[0]) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

let isScrolling = false;
document.addEventListener("scroll", () => {
  if (isScrolling) return;
  isScrolling = true;
  requestAnimationFrame(() => { markOutline(); isScrolling = false; });
});

// --- light, dark and paper

const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

let themeOnScreen;
window.addEventListener("beforeprint", () => {
  themeOnScreen = root.dataset.theme;
  root.dataset.theme = "light";
  for (const fold of document.querySelectorAll("section .fold:not([open])")) { fold.open = true; fold.dataset.shut = ""; }
});
window.addEventListener("afterprint", () => {
  if (themeOnScreen) root.dataset.theme = themeOnScreen; else delete root.dataset.theme;
  for (const fold of document.querySelectorAll("details[data-shut]")) { fold.open = false; delete fold.dataset.shut; }
});

fillPictures(document);
for (const [article, about] of Object.entries(data.blocks)) if (about.best) showBlock(article, about.best.join("/"));
restoreState();
markOutline();
