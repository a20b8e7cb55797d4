// The list of problems: its rows, what is filtered out, what is said of the rest.

let rows = [];

function listProblems() {
  searched = { words: "", found: new Set() };
  const { index } = state;
  rows = index.id.map((id, i) => problemRow(index, id, i));
  byId("list").replaceChildren(...rows.map((row) => make("li", "", row.button)));
  choices(byId("subject"), "all subjects", [...new Set(index.subject)].sort());
  choices(byId("level"), "all levels", [...new Set(index.level)].sort((a, b) => a - b), (level) => `level ${level}`);
  filterProblems();
}

function problemRow(index, id, i) {
  const best = make("span", "best");
  const facts = [index.subject[i], index.level[i] === null ? null : `level ${index.level[i]}`];
  const button = make(
    "button", "problem",
    make("span", "row", best, told(make("span", "id", ...visible(id)), { dir: "auto" }), tally(index, i)),
    told(make("span", "opening", ...visible(index.text[i].slice(0, 160))), { dir: "auto" }),
    make("span", "facts", facts.filter((fact) => fact !== null).join(" · ")),
  );
  button.addEventListener("click", () => openProblem(i));
  return { button, best, words: `${id}\n${index.text[i]}`.toLowerCase() };
}

function tally(index, i) {
  const labelled = index.right[i] + index.wrong[i];
  if (!labelled) return make("span", "tally", `${index.size[i]}`);
  const bar = make("i", "share");
  bar.style.setProperty("--share", index.right[i] / labelled);
  const words = `${index.right[i]} of ${labelled} right`;
  return told(make("span", "tally", `${index.right[i]}/${labelled}`, bar), { title: words, "aria-label": words });
}

function choices(select, all, values, words = (value) => value) {
  const options = values.map((value) => new Option(value === null ? "none given" : words(value), JSON.stringify(value)));
  select.replaceChildren(new Option(all, ""), ...options);
  select.hidden = values.length < 2;
  select.value = state.filter[select.id] ?? "";
  if (select.selectedIndex < 0) select.value = "";
}

const OUTCOMES = {
  right: (index, i) => index.right[i] > 0 && !index.wrong[i],
  wrong: (index, i) => index.wrong[i] > 0 && !index.right[i],
  mixed: (index, i) => index.right[i] > 0 && index.wrong[i] > 0,
  unlabelled: (index, i) => index.right[i] + index.wrong[i] === 0,
};

const bestOf = (i) => state.index.best[i]?.[state.aggregate] ?? null;

const wordsOf = (search) => search.toLowerCase().split(/\s+/).filter(Boolean);

let searched = { words: "", found: new Set() }; // problems with a response that has all the words

/** Looks into the responses too; the list grows by what is found, until the words change. */
async function searchResponses() {
  const mine = (searched = { words: state.filter.search, found: new Set() });
  const [file, words] = [state.file, wordsOf(mine.words)];
  for (let i = 0; i < rows.length && words.length; i++) {
    const { responses } = await unpack(`problem-${file}-${i}`);
    if (mine !== searched || file !== state.file) return;
    const has = ({ steps }) => ((text) => words.every((word) => text.includes(word)))(steps.join("").toLowerCase());
    if (responses.some(has)) mine.found.add(i);
    if (i % 20 === 0) byId("listed").textContent = `searching responses: ${i} of ${rows.length} problems`;
  }
  filterProblems();
  moveToListed();
}

function forgetSearch() {
  if (searched.words !== state.filter.search) searched = { words: "", found: new Set() };
}

function passes(i) {
  const { index, filter } = state;
  return (
    (!filter.subject || JSON.stringify(index.subject[i]) === filter.subject) &&
    (!filter.level || JSON.stringify(index.level[i]) === filter.level) &&
    (!filter.outcome || OUTCOMES[filter.outcome](index, i)) &&
    (!filter.missed || (bestOf(i) !== null && bestOf(i) < 1)) &&
    (wordsOf(filter.search).every((word) => rows[i].words.includes(word)) || searched.found.has(i))
  );
}

function filterProblems() {
  const { index } = state;
  state.listed = index.id.map((_, i) => i).filter(passes);
  const listed = new Set(state.listed);
  rows.forEach((row, i) => {
    row.button.parentNode.hidden = !listed.has(i);
    markBest(row.best, bestOf(i));
  });
  byId("listed").textContent = `${listed.size.toLocaleString("en")} of ${rows.length.toLocaleString("en")} problems`;
  byId("rates").textContent = rates(state.listed);
}

function markBest(node, best) {
  node.className = `best ${best === null ? "unknown" : best === 1 ? "right" : "wrong"}`;
  node.textContent = best === null ? "?" : best === 1 ? "✓" : best === 0 ? "✗" : "½";
  node.title = best === null ? "not labelled" : `best choice by ${state.aggregate}: ${verdict(best)}`;
}

const verdict = (best) => (best === 1 ? "right" : best === 0 ? "wrong" : "right and wrong ones tie");

/** Accuracy over the listed problems whose responses are all labelled. */
function rates(problems) {
  const known = problems.filter((i) => bestOf(i) !== null);
  if (!known.length) return "";
  const mean = (of) => `${((100 * known.reduce((sum, i) => sum + of(i), 0)) / known.length).toFixed(1)}\u00a0%`;
  const { index } = state;
  return `best choice right ${mean(bestOf)} · mean ${mean((i) => index.right[i] / index.size[i])}`;
}

