"use strict";
// All data become text nodes; nothing is parsed as markup.
const page = JSON.parse(document.getElementById("data").textContent);
const cards = page.cards;
const shown = { start: 0, cards };
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
  return make("section", {}, make("h4", {}, block.title), make("div", {}, block.text), make("ul", {}, ...options));
}

// A token's shade grows with its weight, from the least to the largest weight of its text.
function shaded(tokens) {
  const weights = tokens.map((token) => token[1]);
  const least = Math.min(...weights), span = Math.max(...weights) - least || 1;
  return tokens.map(([text, weight]) => {
    const token = make("span", { title: `weight ${weight.toFixed(3)}` }, text);
    token.style.backgroundColor = `rgb(255 150 0 / ${(0.7 * (weight - least) / span).toFixed(2)})`;
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
  return make("article", { tabindex: "0" }, make("h3", {}, card.title),
    make("p", { class: "facts" }, facts(card)), ...card.blocks.map(build));
}

function table(content) {
  const head = make("tr", {}, ...content.header.map((name) => make("th", { scope: "col" }, name)));
  const rows = content.rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make("section", {}, make("h2", {}, content.title),
    make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}

function draw(tag, attributes, content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (content !== undefined) element.textContent = content;
  return element;
}

// Reliability: mean P of each bin against its share of right ones; a circle's area is its count.
function chart(content) {
  const size = 200, edge = 30;
  const x = (value) => edge + value * size, y = (value) => 10 + (1 - value) * size;
  const image = draw("svg", { viewBox: `0 0 ${size + edge + 16} ${size + edge + 10}`, role: "img", "aria-label": content.title });
  image.append(draw("path", { d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}`, stroke: "currentColor", fill: "none" }));
  image.append(draw("path", { d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`, stroke: "currentColor", "stroke-dasharray": "4", fill: "none" }));
  const most = Math.max(...content.bins.map((bin) => bin[2]));
  for (const [mean, share, count] of content.bins) {
    const circle = draw("circle", { cx: x(mean), cy: y(share), r: 3 + 9 * Math.sqrt(count / most), fill: "#0969da", "fill-opacity": 0.6 });
    circle.append(draw("title", {}, `P ${mean.toFixed(2)}: ${(100 * share).toFixed(0)} % of ${count}`));
    image.append(circle);
  }
  for (const value of [0, 0.5, 1]) {
    image.append(draw("text", { x: x(value) - 6, y: y(0) + 12 }, value), draw("text", { x: 8, y: y(value) + 3 }, value));
  }
  image.append(draw("text", { x: x(0.35), y: y(0) + 26 }, content.x), draw("text", { x: 34, y: 9 }, content.y));
  return make("section", {}, make("h2", {}, content.title), image);
}

function matches(card, wanted) {
  for (const [name, value] of wanted.facets) if ((card.facets[name] ?? "") !== value) return false;
  for (const [name, least, most] of wanted.ranges) {
    const value = card.numbers[name] ?? null;
    if (value === null || value < least || value > most) return false;
  }
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
  return { facets, ranges, words: byId("search").value.trim().toLowerCase() };
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
  const part = shown.cards.slice(shown.start, shown.start + page.per_page);
  byId("cards").replaceChildren(...part.map(article));
  byId("count").textContent = part.length
    ? `${shown.start + 1}–${shown.start + part.length} of ${shown.cards.length}` : "nothing fits these filters";
  byId("before").disabled = shown.start === 0;
  byId("after").disabled = shown.start + part.length >= shown.cards.length;
}

function focusCard(step) {
  const all = [...document.querySelectorAll("article")];
  const now = all.indexOf(document.activeElement.closest("article"));
  const next = all[Math.min(Math.max(0, now + step), all.length - 1)];
  if (next) next.focus();
}

const KEYS = {
  n: () => show(shown.start + page.per_page), ArrowRight: () => show(shown.start + page.per_page),
  p: () => show(shown.start - page.per_page), ArrowLeft: () => show(shown.start - page.per_page),
  j: () => focusCard(1), k: () => focusCard(-1), "/": () => byId("search").focus(),
};
// In an audit a digit marks the card on show, and the page goes on once the mark is kept.
async function mark(word) {
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
if (page.audit) page.audit.marks.forEach((word, place) => { KEYS[place + 1] = () => mark(word); });

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

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
  const first = [labelled("search", make("input", { id: "search", type: "search" })), ...filters, labelled("order", order)];
  form.prepend(...first);
  form.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("before").addEventListener("click", () => show(shown.start - page.per_page));
  byId("after").addEventListener("click", () => show(shown.start + page.per_page));
}

byId("tables").append(...page.tables.map(table), ...page.charts.map(chart));
controls();
show(page.audit ? Math.max(0, cards.findIndex((card) => !card.facets.mark)) : 0);
