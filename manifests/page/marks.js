// Marks of samples, kept by this browser under the digest of what the page shows, and as a file.
// Pages in other tabs may mark, too: the browser's copy is read before it is changed.
const marks = { ids: new Set(), kept: true };
const canMark = (card) => Boolean(page.marks && card && card.id);
const isMarked = (card) => canMark(card) && marks.ids.has(card.id);

function readMarks() {
  try {
    const known = JSON.parse(localStorage.getItem(`nontrivial.marks.${page.marks}`) ?? "[]");
    marks.ids = new Set(Array.isArray(known) ? known.filter((id) => typeof id === "string") : []);
  } catch { marks.kept = false; }
}

function keepMarks() {
  try {
    localStorage.setItem(`nontrivial.marks.${page.marks}`, JSON.stringify([...marks.ids]));
    marks.kept = true;
  } catch { marks.kept = false; }
  showMarks();
}

// Mark a card, or take its mark away.
function mark(card) {
  if (!canMark(card)) return;
  if (marks.kept) readMarks();
  if (!marks.ids.delete(card.id)) marks.ids.add(card.id);
  keepMarks();
}

function showMarks() {
  const part = shown.cards.slice(shown.start, shown.start + page.per_page);
  part.forEach((card, place) => byId("cards").children[place].classList.toggle("marked", isMarked(card)));
  if (byId("opened").open) open();
  byId("marks").textContent = `${marks.ids.size} marked${marks.kept ? "" : ", not kept by this browser"}`;
}

function marksAsText() { return [...marks.ids].sort().map((id) => id + "\n").join(""); }

function exportMarks() {
  const text = make("textarea", { readonly: "", rows: "10", "aria-label": "ids" }, marksAsText());
  const told = make("output", {});
  const copy = () => navigator.clipboard.writeText(marksAsText()).then(
    () => { told.textContent = "copied"; },
    () => { text.select(); told.textContent = "the browser doesn't let this page copy: press ctrl-C"; });
  const forget = () => { marks.ids.clear(); keepMarks(); byId("export").close(); };
  byId("export").replaceChildren(
    make("h2", {}, "marked"), make("p", { class: "note" }, "one id a line, for --exclude ids.txt of builders, trainers and eval.qa"),
    text, make("div", { class: "steps" }, button("download ids.txt", download), button("copy", copy),
      button("forget all marks", forget), button("close", () => byId("export").close())), told);
  byId("export").showModal();
}

function download() {
  const address = URL.createObjectURL(new Blob([marksAsText()], { type: "text/plain" }));
  make("a", { href: address, download: "ids.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function markControls() {
  readMarks();
  window.addEventListener("storage", () => { readMarks(); showMarks(); });
  const choice = (value, name) => make("option", { value }, name);
  const box = make("select", { id: "marked" }, choice("", "all"), choice("marked", "marked"), choice("other", "not marked"));
  const told = `${marks.ids.size} marked${marks.kept ? "" : ", not kept by this browser"}`;
  return [labelled("marks", box), button(told, exportMarks, { id: "marks" })];
}
