// What is open, kept in the address, and the start.

const state = {
  files: [], file: 0, index: null, problem: 0, response: null, aggregate: "min", order: "best",
  filter: { search: "", subject: "", level: "", outcome: "", missed: false }, listed: [], cards: [], asked: 0,
};

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const file = Number(said.get("file") ?? 0);
  state.file = state.files[file] ? file : 0;
  state.index = state.files[state.file];
  const { index, filter } = state;
  state.aggregate = index.aggregates.includes(said.get("score")) ? said.get("score") : index.aggregate;
  state.order = Object.hasOwn(ORDERS, said.get("order") ?? "") ? said.get("order") : "best";
  for (const name of ["search", "subject", "level", "outcome"]) filter[name] = said.get(name) ?? "";
  if (!Object.hasOwn(OUTCOMES, filter.outcome)) filter.outcome = "";
  filter.missed = said.has("missed");
  const response = Number.parseInt(said.get("response") ?? "", 10);
  state.response = Number.isNaN(response) ? null : response - 1;
  return said.get("problem");
}

function writeAddress() {
  const { index, filter, order, aggregate } = state;
  const say = new URLSearchParams();
  if (state.file) say.set("file", state.file);
  if (index.id.length) say.set("problem", index.id[state.problem]);
  if (state.response !== null) say.set("response", state.response + 1);
  if (aggregate !== index.aggregate) say.set("score", aggregate);
  if (order !== "best") say.set("order", order);
  for (const name of ["search", "subject", "level", "outcome"]) if (filter[name]) say.set(name, filter[name]);
  if (filter.missed) say.set("missed", "");
  history.replaceState(null, "", `#${say}`);
}

/** Shows a problem; of several asked for in haste only the last is drawn. */
async function openProblem(problem, response = null) {
  clearTimeout(later);
  state.problem = problem;
  state.response = response;
  const asked = ++state.asked;
  rows.forEach(({ button }, i) => button.toggleAttribute("aria-current", i === problem));
  rows[problem].button.scrollIntoView({ block: "nearest" });
  writeAddress();
  const content = await problemContent(state.file, problem);
  if (asked !== state.asked) return;
  showProblem(content);
  byId("main").scrollTop = 0;
  if (response !== null) openResponse(response, true);
  byId("main").dataset.shown = problem;
}

function openResponse(k, scroll) {
  if (state.response !== k) {
    state.response = k;
    writeAddress();
  }
  for (const entry of state.cards) {
    const current = entry.k === k;
    entry.row.toggleAttribute("aria-current", current);
    entry.card.classList.toggle("current", current);
    if (!current || !scroll) continue;
    fillCard(entry);
    entry.row.scrollIntoView({ block: "nearest" });
    entry.card.scrollIntoView({ block: "start" });
    entry.card.focus({ preventScroll: true });
  }
}

async function redrawResponses() {
  writeAddress();
  filterProblems();
  const asked = ++state.asked;
  const content = await problemContent(state.file, state.problem);
  if (asked !== state.asked) return;
  showResponses(content);
  if (state.response !== null) openResponse(state.response, true);
}

/** Another scorer, at the same problem where it has it. */
function openFile(file, problem) {
  state.file = file;
  state.index = state.files[file];
  if (!state.index.aggregates.includes(state.aggregate)) state.aggregate = state.index.aggregate;
  const { index } = state;
  document.title = `${index.source} · step rewards`;
  byId("counts").textContent = `${index.id.length.toLocaleString("en")} problems · ${index.responses.toLocaleString("en")} responses`;
  byId("legend").replaceChildren(...legend(index));
  showIdentity(index);
  listProblems();
  const found = index.id.findIndex((id) => id.toWellFormed() === problem);
  openProblem(found < 0 ? (state.listed[0] ?? 0) : found, found < 0 ? null : state.response);
}

function showIdentity(index) {
  const words = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const entries = Object.entries({ file: index.source, ...index.identity });
  byId("identity").replaceChildren(...entries.flatMap(([name, value]) => [
    make("dt", "", ...visible(name)), told(make("dd", "", ...visible(words(value))), { dir: "auto" })]));
  const short = ["model", "policy", "reference", "beta", "template", "steps"].filter((name) => name in index.identity);
  byId("scorer").replaceChildren(...visible(short.slice(0, 3).map((name) => `${name} ${words(index.identity[name])}`).join(" · ") || index.source));
}

function showControls() {
  const { index, filter } = state;
  const fill = (select, pairs, value) => {
    select.replaceChildren(...pairs.map(([words, name]) => new Option(words, name)));
    select.value = value;
  };
  fill(byId("aggregate"), index.aggregates.map((name) => [name, name]), state.aggregate);
  fill(byId("file"), state.files.map(({ source }, i) => [source, `${i}`]), `${state.file}`);
  byId("file").parentNode.hidden = state.files.length < 2;
  byId("order").value = state.order;
  byId("search").value = filter.search;
  byId("outcome").value = filter.outcome;
  byId("missed").checked = filter.missed;
}

function listen() {
  for (const name of ["search", "subject", "level", "outcome", "missed"]) {
    byId(name).addEventListener("input", ({ target }) => {
      state.filter[name] = name === "missed" ? target.checked : target.value;
      forgetSearch();
      filterProblems();
      writeAddress();
    });
  }
  byId("search").addEventListener("keydown", ({ key }) => key === "Enter" && (byId("search").blur(), searchResponses()));
  for (const name of ["aggregate", "order"]) {
    byId(name).addEventListener("change", ({ target }) => ((state[name] = target.value), redrawResponses()));
  }
  byId("file").addEventListener("change", ({ target }) => openFile(Number(target.value), state.index.id[state.problem]?.toWellFormed()));
  byId("ask").addEventListener("click", () => byId("help").showModal());
  byId("panel").addEventListener("click", () => document.body.classList.toggle("folded"));
  document.addEventListener("keydown", pressed);
  addEventListener("hashchange", show);
  addEventListener("beforeprint", () => state.cards.forEach(fillCard));
}

/** The open problem stays where it passes the filter; otherwise the first that does opens. */
function moveToListed() {
  if (state.listed.length && !state.listed.includes(state.problem)) openProblem(state.listed[0]);
}

function show() {
  const problem = readAddress();
  showControls();
  openFile(state.file, problem);
}

async function start() {
  try {
    state.files = await unpack("files");
    writeHelp();
    listen();
    show();
  } catch (error) {
    byId("title").textContent = `This page cannot be shown (${error.message}); it needs a browser of late 2023 or newer.`;
    throw error;
  }
}

start();
