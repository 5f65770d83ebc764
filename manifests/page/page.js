"use strict";
// All data become text nodes; nothing is parsed as markup.
const page = JSON.parse(document.getElementById("data").textContent);
const cards = page.cards;
const shown = { start: 0, at: -1, cards };  // `at`: the card that keys are about, −1 for none
const byId = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function picture(item) {
  const source = item.image === null ? null : page.images[item.image];
  const visual = source === null
    ? make("div", { class: "none" }, "no thumbnail")
    : make("img", { src: "data:image/jpeg;base64," + source, alt: item.caption });
  const mark = item.mark ? make("span", { class: "mark" }, item.mark === "right" ? "✓ " : "✗ ") : null;
  return make("figure", { class: item.mark }, visual, make("figcaption", {}, mark, item.caption));
}

function question(block) {
  const options = block.options.map(([letter, text, right]) =>
    make("li", { class: right ? "right" : null }, `${right ? "✓" : " "} ${letter} ${text}`));
  return make("section", {}, make("h4", {}, block.title), make("div", { class: "asked" }, block.text), make("ul", {}, ...options));
}

// A token's shade grows with its weight, from the least to the largest weight of its text.
function shaded(tokens) {
  const weights = tokens.map((token) => token[1]);
  const least = Math.min(...weights), span = Math.max(...weights) - least || 1;
  return tokens.map(([text, weight]) => {
    const token = make("span", { title: `weight ${weight.toFixed(3)}` }, text);
    token.style.setProperty("--shade", `${(100 * (weight - least) / span).toFixed(0)}%`);
    return token;
  });
}

function text(block) {
  const content = block.tokens ? shaded(block.tokens) : [block.text];
  return make("section", { class: block.mark }, make("h4", {}, block.title), make("p", { class: "text" }, ...content));
}

const BLOCKS = {
  images: (block) => make("div", { class: "images" }, ...block.items.map(picture)),
  beside: (block) => make("div", { class: "beside" }, ...block.parts.map(build)),
  question, text,
};
function build(block) { return BLOCKS[block.type](block); }

function facts(card) {
  const known = { ...card.facets };
  for (const [name, value] of Object.entries(card.numbers)) {
    if (value !== null) known[name] = value.toFixed(3);
  }
  return Object.entries(known).map(([name, value]) => `${name}: ${value}`).join(" · ");
}

function article(card) {
  return make("article", { tabindex: "0", class: isMarked(card) ? "marked" : null }, make("h3", {}, make("bdi", {}, card.title)),
    make("p", { class: "facts" }, facts(card)), ...card.blocks.map(build));
}

function table(content) {
  const head = make("tr", {}, ...content.header.map((name) => make("th", { scope: "col" }, name)));
  const rows = content.rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make("section", {}, make("h2", {}, content.title),
    make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}

function matches(card, wanted) {
  for (const [name, value] of wanted.facets) if ((card.facets[name] ?? "") !== value) return false;
  for (const [name, least, most] of wanted.ranges) {
    const value = card.numbers[name] ?? null;
    if (value === null || value < least || value > most) return false;
  }
  if (wanted.marked && (wanted.marked === "marked") !== isMarked(card)) return false;
  return !wanted.words || card.searched.includes(wanted.words);
}

function wanted() {
  const facets = [], ranges = [];
  for (const box of document.querySelectorAll("select[data-facet]")) {
    if (box.value !== "*") facets.push([box.dataset.facet, JSON.parse(box.value)]);
  }
  for (const box of document.querySelectorAll("input[data-least]")) {
    const most = document.querySelector(`input[data-most="${CSS.escape(box.dataset.least)}"]`);
    if (box.value || most.value) ranges.push([box.dataset.least, box.value ? +box.value : -Infinity, most.value ? +most.value : Infinity]);
  }
  return { facets, ranges, marked: byId("marked")?.value, words: byId("search").value.trim().toLowerCase() };
}

function search() {
  const all = wanted();
  if (all.words) for (const card of cards) card.searched ??= JSON.stringify([card.title, card.blocks]).toLowerCase();
  shown.cards = cards.filter((card) => matches(card, all));
  const [name, sign] = byId("order").value.split("|");
  if (name) {
    const key = (card) => card.numbers[name] ?? Infinity * +sign;
    shown.cards = [...shown.cards].sort((a, b) => sign * (key(a) - key(b)) || 0);
  }
  show(0);
}

function show(start) {
  const last = Math.max(0, Math.floor((shown.cards.length - 1) / page.per_page) * page.per_page);
  shown.start = Math.min(Math.max(0, start), last);
  shown.at = page.audit ? shown.start : -1;
  const part = shown.cards.slice(shown.start, shown.start + page.per_page);
  byId("cards").replaceChildren(...part.map(article));
  byId("count").textContent = part.length
    ? `${shown.start + 1}–${shown.start + part.length} of ${shown.cards.length}` : "nothing fits these filters";
  byId("before").disabled = shown.start === 0;
  byId("after").disabled = shown.start + part.length >= shown.cards.length;
}

// Go so many cards on, to the next page where this one ends.
function move(step) {
  const next = Math.min(Math.max(0, shown.at < 0 ? shown.start : shown.at + step), shown.cards.length - 1);
  if (next < 0) return;
  if (next < shown.start || next >= shown.start + page.per_page) show(next - next % page.per_page);
  shown.at = next;
  const card = byId("cards").children[next - shown.start];
  if (byId("opened").open) open(); else card.focus();
}

function columns() {
  const all = [...byId("cards").children];
  return all.filter((card) => card.offsetTop === all[0].offsetTop).length;
}

// Show one card alone, large.
function open() {
  const card = shown.cards[shown.at];
  if (!card) return;
  byId("opened").replaceChildren(large(card));
  if (!byId("opened").open) byId("opened").showModal();
}

function large(card) {
  const whole = article(card);
  const steps = [["previous", () => move(-1)], ["next", () => move(1)], ["close", () => byId("opened").close()]];
  if (canMark(card)) steps.splice(2, 0, [isMarked(card) ? "unmark" : "mark", () => mark(card)]);
  whole.prepend(make("div", { class: "steps" }, ...steps.map(([name, act]) => button(name, act))));
  whole.removeAttribute("tabindex");
  return whole;
}

function button(name, act, attributes) {
  const made = make("button", { type: "button", ...attributes }, name);
  made.addEventListener("click", act);
  return made;
}

function showKeys() {
  const list = Object.entries(page.keys).map(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]);
  byId("keys").replaceChildren(make("h2", {}, "keys"), make("dl", {}, ...list.flat()), button("close", () => byId("keys").close()));
  byId("keys").showModal();
}

// A setting that this browser keeps, where it keeps any.
function setting(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`nontrivial.${name}`, value);
    return localStorage.getItem(`nontrivial.${name}`);
  } catch { return null; }
}

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `theme: ${theme}`;
}
function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  setting("theme", theme);
  setTheme(theme);
}

function setSheet(on) {
  byId("cards").classList.toggle("sheet", on);
  byId("layout").textContent = on ? "as cards" : "as a sheet";
}
function otherLayout() {
  const on = !byId("cards").classList.contains("sheet");
  setting("layout", on ? "sheet" : "cards");
  setSheet(on);
  if (on) byId("filters").scrollIntoView();
}

const inSheet = () => byId("cards").classList.contains("sheet") && !byId("opened").open;
const KEYS = {
  n: () => show(shown.start + page.per_page), p: () => show(shown.start - page.per_page),
  j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
  ArrowDown: () => inSheet() ? move(columns()) : true, ArrowUp: () => inSheet() ? move(-columns()) : true,
  m: () => byId("opened").open ? byId("opened").close() : open(), Enter: () => KEYS.m(),
  x: () => mark(shown.cards[shown.at]), s: () => page.audit || otherLayout(),
  "/": () => byId("search").focus(), "?": showKeys,
};
// In an audit a digit marks the card on show, and the page goes on once the mark is kept.
async function judge(word) {
  const card = shown.cards[shown.start];
  if (!card) return;
  const body = JSON.stringify({ id: card.title, mark: word });
  const answer = await fetch("/mark", { method: "POST", body, headers: { "X-Secret": page.audit.secret } }).catch(() => null);
  if (!answer || !answer.ok) {
    byId("count").textContent = "not saved: is the audit still running?";
    return;
  }
  card.facets.mark = word;
  const next = shown.cards.findIndex((other, place) => place > shown.start && !other.facets.mark);
  show(next < 0 ? shown.start + 1 : next);
}
if (page.audit) page.audit.marks.forEach((word, place) => { KEYS[place + 1] = () => judge(word); });

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  const pressing = event.key === "Enter" && event.target.matches("button, a");
  if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  const other = document.querySelector("dialog[open]:not(#opened)");  // has no keys but its own
  if (other) {
    if (event.key === "?") other.close();
    return;
  }
  if (KEYS[event.key]() !== true) event.preventDefault();
});
byId("cards").addEventListener("focusin", (event) => {
  const card = event.target.closest("article");
  shown.at = shown.start + [...byId("cards").children].indexOf(card);
});
byId("cards").addEventListener("click", (event) => { if (event.target.closest("h3, .images")) open(); });
byId("opened").addEventListener("close", () => byId("cards").children[shown.at - shown.start]?.focus());

function labelled(name, ...inputs) { return make("label", {}, name, make("span", {}, ...inputs)); }

function controls() {
  const form = byId("filters"), values = {}, numbers = new Set();
  for (const card of cards) {
    for (const [name, value] of Object.entries(card.facets)) (values[name] ??= new Set()).add(value);
    for (const [name, value] of Object.entries(card.numbers)) if (value !== null) numbers.add(name);
  }
  const filters = [];
  for (const [name, known] of Object.entries(values)) {
    if (known.size < 2) continue;
    const options = [...known].sort().map((value) => make("option", { value: JSON.stringify(value) }, value || "—"));
    filters.push(labelled(name, make("select", { "data-facet": name }, make("option", { value: "*" }, "all"), ...options)));
  }
  const order = make("select", { id: "order" }, make("option", { value: "" }, "as given"));
  for (const name of numbers) {
    filters.push(labelled(name,
      make("input", { type: "number", step: "any", placeholder: "from", "aria-label": `${name} from`, "data-least": name }),
      make("input", { type: "number", step: "any", placeholder: "to", "aria-label": `${name} to`, "data-most": name })));
    order.append(make("option", { value: `${name}|1` }, `${name}, rising`), make("option", { value: `${name}|-1` }, `${name}, falling`));
  }
  if (page.marks) filters.push(...markControls());
  const first = [labelled("search", make("input", { id: "search", type: "search" })), ...filters, labelled("order", order)];
  form.prepend(...first);
  form.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("before").addEventListener("click", () => show(shown.start - page.per_page));
  byId("after").addEventListener("click", () => show(shown.start + page.per_page));
  const switches = [button("as a sheet", otherLayout, { id: "layout", hidden: page.audit ? "" : null })];
  form.append(...switches, button("theme", nextTheme, { id: "theme" }), button("keys", showKeys, { "aria-keyshortcuts": "?" }));
  setTheme(THEMES.includes(setting("theme")) ? setting("theme") : "system");
  setSheet(!page.audit && setting("layout") === "sheet");
}

// A page of a run that goes on comes again, unless somebody is at it.
function comeAgain() {
  const busy = document.querySelector("dialog[open]") || document.activeElement.matches("input, select");
  if (!busy) location.reload();
}

byId("tables").append(...page.tables.map(table), make("div", { class: "charts" }, ...page.charts.map(chart)));
controls();
show(page.audit ? Math.max(0, cards.findIndex((card) => !card.facets.mark)) : 0);
if (page.reload) setInterval(comeAgain, 1000 * page.reload);
