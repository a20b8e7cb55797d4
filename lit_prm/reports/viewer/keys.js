// The keyboard.

const KEYS = {
  j: ["next problem (also →)", () => moveProblem(1)],
  k: ["previous problem (also ←)", () => moveProblem(-1)],
  n: ["next response", () => moveResponse(1)],
  p: ["previous response", () => moveResponse(-1)],
  Enter: ["tokens of the step in focus, or of the whole response", () => toggleTokens()],
  a: ["next way to make a score of step rewards", () => cycle(byId("aggregate"))],
  o: ["next order of the responses", () => cycle(byId("order"))],
  s: ["next scorer, where the page holds several", () => cycle(byId("file"))],
  "/": ["search; Enter looks into the responses too", () => byId("search").select()],
  "?": ["this help", () => byId("help").showModal()],
};
const ALSO = { ArrowRight: "j", ArrowLeft: "k" };

function writeHelp() {
  const lines = Object.entries(KEYS).flatMap(([key, [words]]) => [make("dt", "", make("kbd", "", key)), make("dd", "", words)]);
  lines.push(make("dt", "", make("kbd", "", "← →")), make("dd", "", "between tokens, when one is in focus"));
  byId("keys").replaceChildren(...lines);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const target = event.target;
  if (event.key === "Escape") byId("who").open = false;
  if (target.matches?.("input, select") && event.key === "Escape") return target.blur();
  if (target.matches?.("#search") || (target.matches?.("select") && !"/?".includes(event.key))) return;
  if (target.matches?.(".token") && moveToken(event.key, target)) return event.preventDefault();
  if (event.key === "Enter" && target.matches?.("button, summary")) return;
  const name = ALSO[event.key] ?? event.key;
  if (!Object.hasOwn(KEYS, name)) return;
  event.preventDefault();
  KEYS[name][1]();
}

function moveToken(key, token) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (!by) return false;
  const all = [...token.parentNode.querySelectorAll(".token")];
  all[all.indexOf(token) + by]?.focus();
  return true;
}

function moveProblem(by) {
  const at = state.listed.indexOf(state.problem);
  const next = at < 0 ? 0 : at + by;
  if (next >= 0 && next < state.listed.length) openProblem(state.listed[next]);
}

function moveResponse(by) {
  const at = state.cards.findIndex(({ k }) => k === state.response);
  const next = state.cards[Math.max(0, at + by)];
  if (next) openResponse(next.k, true);
}

function toggleTokens() {
  const entry = state.cards.find(({ k }) => k === state.response) ?? state.cards[0];
  if (!entry) return;
  fillCard(entry);
  const open = !entry.steps.some((block) => block.classList.contains("open"));
  entry.steps.forEach((block) => showTokens(block, open));
}

function cycle(select) {
  if (select.options.length < 2) return;
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

