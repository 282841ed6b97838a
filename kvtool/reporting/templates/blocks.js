"use strict";
// Reads the JSON embedded in the page, and asks nothing of anyone. All text goes in through textContent.
const data = JSON.parse(document.getElementById("data").textContent);

function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Rows of a table as objects.
function rowsOf(name) {
  const { same, own, rows } = data.tables[name];
  return rows.map((values) => Object.assign({ ...same }, Object.fromEntries(own.map((column, i) => [column, values[i]]))));
}

// --- CSV files, as `--format csv` writes them

function csvField(value) {
  if (value === null || value === undefined) return "";
  const text = value === true ? "True" : value === false ? "False" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function saveCsv(name, columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((fields) => fields.map(csvField).join(","));
  const url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  const link = element("a", "", { href: url, download: `${name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-csv]");
  if (!button) return;
  const name = button.dataset.csv;
  const block = button.dataset.block;
  const rows = rowsOf(name);
  saveCsv(block ? `${name}-${block.replaceAll("/", "-")}` : name, data.tables[name].columns, block ? rows.filter((row) => blockOf(row) === block) : rows);
});

// --- pictures: each data URI is in the page once

function fillPictures(inside) {
  for (const image of inside.querySelectorAll("img[data-picture]")) image.src = data.pictures[image.dataset.picture];
}

function picture(drawn) {
  const figure = element("figure", undefined, { class: "picture" });
  const button = element("button", undefined, { type: "button", class: "zoom", "aria-label": `Enlarge: ${drawn.caption}` });
  button.append(element("img", undefined, { "data-picture": drawn.picture, alt: drawn.caption, width: drawn.width_px, height: drawn.height_px }));
  figure.append(button, element("figcaption", drawn.caption));
  figure.style.width = `${drawn.width_px}px`;
  return figure;
}

// --- one block: its scores by label, and what it predicts

const chosen = new Map(); // the block that each article shows

const blockOf = (row) => `${row.kind}/${row.layer}/${row.kv_head}`;

function number(format, value) {
  if (value === null || value === undefined) return "-";
  const shown = format.scale * value;
  return format.decimals === null ? shown.toPrecision(4) : shown.toFixed(format.decimals);
}

function interval(about, row, metric) {
  const [value, low, high] = ["", "_low", "_high"].map((end) => row[metric + end]);
  const format = about.formats[metric];
  const text = number(format, value);
  return low == null || high == null ? text : `${text} [${number(format, low)}, ${number(format, high)}]`;
}

const isSummary = (about, row) => about.labels.every((label) => row[label] == null || row[label] === "all");

function showBlock(article, block) {
  const about = data.blocks[article];
  const rows = about ? rowsOf(about.rows).filter((row) => blockOf(row) === block) : [];
  if (!rows.length) return; // a link to a block that is not there
  const panel = document.getElementById(`${article}-block`);
  const [kind, layer, head] = block.split("/");
  panel.replaceChildren(element("h4", `${kind}, layer ${layer}, head ${head}${about.best && about.best.join("/") === block ? ": the best block" : ""}`));
  const labels = about.labels.filter((label) => rows.some((row) => row[label] != null));
  panel.append(blockTable(about, block, rows, labels));
  const drawn = about.examples[block];
  if (drawn) {
    const pictures = element("div", undefined, { class: "pictures", "data-gallery": "" });
    pictures.append(...drawn.map(picture));
    panel.append(pictures);
    if (about.legend) panel.append(element("p", about.legend, { class: "small" }));
    fillPictures(pictures);
  } else if (Object.keys(about.examples).length) {
    panel.append(element("p", "Pictures were drawn of other blocks: " + Object.keys(about.examples).join(", ") + " (kind/layer/head).", { class: "small" }));
  }
  if (about.maps.length && about.best?.join("/") === block) panel.append(...mapsOf(about, { kind, layer, kv_head: head }));
  if (about.viewer?.kinds.includes(kind)) panel.append(viewerLine(viewerCommand(about.viewer, kind, layer, head)));
  panel.hidden = false;
  chosen.set(article, block);
  for (const cell of document.querySelectorAll(`[data-article="${article}"] .cell`)) cell.setAttribute("aria-pressed", cell.dataset.block === block);
}

// The module of the viewer runs when the page is read to its end, and tells what shows maps.
const mapsShown = new Promise((resolve) => { window.tellMaps = resolve; });

function mapsOf(about, block) {
  const root = element("div");
  mapsShown.then((show) => show(root, block, about.maps, data.pictures));
  return [
    element("h5", "Similarity: hover a patch"),
    element("p", "The cosine of every patch with the one under the pointer, in this block. A click keeps a patch; arrow keys move it.", { class: "small" }),
    root,
  ];
}

// The command that opens a block in the viewer: its server's address is known only where it runs.
function viewerCommand({ command, run, score }, kind, layer, head) {
  const state = new URLSearchParams({ view: score ? "heads" : "picture", run, kind, layer, kv_head: head });
  if (score) state.set("score", score);
  // Percent-encoded it has no quote that could end the shell's.
  return `${command} --state '${state}'`;
}

function viewerLine(command) {
  const line = element("pre");
  line.append(element("code", command));
  addCopy(line, "Copy", "Copy the command that opens this block in the viewer", () => command);
  return line;
}

function blockTable(about, block, rows, labels) {
  const table = element("table");
  const head = element("tr");
  for (const name of [labels.join(" · ") || "rows", ...about.metrics.map((metric) => metric + about.formats[metric].unit), "n"]) head.append(element("th", name, { scope: "col" }));
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  for (const row of rows) {
    const line = element("tr");
    const name = isSummary(about, row) ? "all" : labels.filter((label) => row[label] != null).map((label) => (label === "category" ? row[label] : `${label} ${row[label]}`)).join(" · ");
    line.append(element("th", name, { scope: "row" }));
    for (const metric of about.metrics) line.append(element("td", interval(about, row, metric)));
    line.append(element("td", row.n));
    table.tBodies[0].append(line);
  }
  const figure = element("figure", undefined, { class: "table" });
  const caption = element("figcaption", "Its scores ");
  caption.append(element("button", "\u2193 CSV", { type: "button", class: "small-button", "data-csv": about.rows, "data-block": block }));
  const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores of this block" });
  scroll.append(table);
  figure.append(caption, scroll);
  return figure;
}

// --- marks tell what they are on hover or focus

const tip = document.getElementById("tip");
const TOLD = "[data-tip], .cell";

function showTip(target) {
  tip.textContent = target.dataset.tip ?? target.getAttribute("aria-label");
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const left = Math.min(Math.max(at.left + at.width / 2 - tip.offsetWidth / 2, 4), window.innerWidth - tip.offsetWidth - 4);
  const above = at.top - tip.offsetHeight - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above < 4 ? at.bottom + 8 : above}px`;
}

for (const [start, stop] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  document.addEventListener(start, (event) => {
    const target = event.target.closest(TOLD);
    if (target) showTip(target);
  });
  document.addEventListener(stop, (event) => {
    if (event.target.closest(TOLD)) tip.hidden = true;
  });
}
document.addEventListener("scroll", () => { tip.hidden = true; }, true);

// --- heatmaps: click or Enter shows a block, arrows move

document.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const { article } = cell.closest("[data-article]").dataset;
  showBlock(article, cell.dataset.block);
  reveal(document.getElementById(`${article}-block`));
  keepState();
});

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip.hidden = true;
  const cell = event.target.closest(".cell");
  const step = STEPS[event.key];
  if (!cell || !step) return;
  event.preventDefault();
  const place = cell.closest("td");
  const rows = cell.closest("tbody").rows;
  const next = rows[place.parentElement.rowIndex - 1 + step[0]]?.cells[place.cellIndex + step[1]]?.querySelector(".cell");
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
