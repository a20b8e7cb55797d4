// The open problem: its text, an overview of its responses, and each response with its steps.

function showProblem(content) {
  const { index, problem } = state;
  const facts = [
    index.subject[problem], index.level[problem] === null ? null : `level ${index.level[problem]}`,
    index.right[problem] + index.wrong[problem]
      ? `${index.right[problem]} of ${index.size[problem]} right` : `${index.size[problem]} responses, not labelled`,
  ];
  byId("title").replaceChildren(
    told(make("span", "", ...visible(index.id[problem])), { dir: "auto" }),
    make("small", "", facts.filter((fact) => fact !== null).join(" · ")));
  byId("prompt").replaceChildren(...content.prompt.flatMap(([role, text]) =>
    [role ? make("span", "role", ...visible(role)) : null, prose("div", "text", text)].filter(Boolean)));
  byId("gold").replaceChildren(...(content.answer === null ? [] : ["gold answer ", prose("code", "", content.answer)]));
  showResponses(content);
}

function showResponses(content) {
  const { index } = state;
  const order = ordered(content.responses);
  const top = content.responses[order[0]]?.scores[state.aggregate];
  state.cards = order.map((k, rank) => responseCard(content.responses[k], k, rank, index));
  fillCards();
  byId("responses").replaceChildren(...state.cards.map(({ card }) => card));
  byId("overview").replaceChildren(...state.cards.map((entry, rank) => overviewRow(content.responses[entry.k], entry, rank, index)));
  if (state.order === "best") {
    for (const entry of state.cards) {
      const best = top !== null && content.responses[entry.k].scores[state.aggregate] === top;
      entry.card.classList.toggle("chosen", best);
    }
  }
}

const ORDERS = {
  best: (a, b) => (b ?? -Infinity) - (a ?? -Infinity) || 0,
  worst: (a, b) => (a ?? -Infinity) - (b ?? -Infinity) || 0,
  file: () => 0,
};

function ordered(responses) {
  const score = (k) => responses[k].scores[state.aggregate];
  return [...responses.keys()].sort((a, b) => ORDERS[state.order](score(a), score(b)));
}

function outcome(response) {
  const [name, sign] = response.correct === null ? ["unknown", "?"] : response.correct ? ["right", "✓"] : ["wrong", "✗"];
  return told(make("span", `outcome ${name}`, sign), { role: "img", "aria-label": name, title: name });
}

const scoreText = (response, index) =>
  state.aggregate === "product" ? shown(response.scores.product) : reward(response.scores[state.aggregate], index.steps);

function overviewRow(response, entry, rank, index) {
  const strip = make("span", "strip", ...response.rewards.slice(0, 60).map((x, s) => {
    const cell = shade(make("i", s === response.first_error ? "cell error" : "cell"), x, index.steps);
    return cell;
  }));
  const row = make(
    "button", "glance", make("span", "rank", `${rank + 1}`), outcome(response),
    make("span", "number", scoreText(response, index)), told(answerText(response), { title: response.answer ?? "" }), strip);
  row.addEventListener("click", () => openResponse(entry.k, true));
  entry.row = row;
  return make("li", "", row);
}

const answerText = (response) =>
  told(make("span", "answer", ...visible((response.answer ?? "no answer").slice(0, 200))), { dir: "auto" });

function responseCard(response, k, rank, index) {
  const score = make("span", "score", make("span", "name", state.aggregate), make("b", "number", scoreText(response, index)));
  const head = make(
    "header", "", make("span", "rank", `${rank + 1}`), outcome(response), score, answerText(response),
    make("span", "chosen-mark", "best choice"),
    response.truncated ? told(make("span", "mark cut", "✂ cut off"), { title: "The response did not fit and was scored up to the cut." }) : null,
    sparkline(response, index.steps), make("span", "facts", factsOf(response, k, index)));
  const card = told(make("article", "response", head), { tabindex: "-1", "aria-label": `response ${k + 1}` });
  card.addEventListener("focusin", () => openResponse(k, false));
  const steps = () => response.steps.map((_, s) => stepBlock(response, s, index.steps, index.tokens));
  return { k, card, steps: null, fill: steps };
}

const AT_ONCE = 6; // cards

let later = 0; // what is done while the reader reads

/** The first cards have their steps at once, the others soon; then the next problem is made ready. */
function fillCards() {
  clearTimeout(later);
  const empty = state.cards.filter(({ steps }) => !steps).slice(0, AT_ONCE);
  empty.forEach(fillCard);
  later = setTimeout(empty.length ? fillCards : prepareNext);
}

function prepareNext() {
  const next = state.listed[state.listed.indexOf(state.problem) + 1];
  if (next !== undefined) problemContent(state.file, next);
}

function fillCard(entry) {
  if (entry.steps) return;
  entry.steps = entry.fill();
  entry.card.append(...entry.steps);
}

function factsOf(response, k, index) {
  const facts = [`response ${k + 1}`];
  if (!index.steps.probabilities) facts.push(`reward ${signed(response.reward, index.steps.reach)}`);
  if (response.tokens) facts.push(`${response.tokens.toLocaleString("en")} tokens`);
  if (response.first_error === -1) facts.push("every step right");
  if (response.generator !== null) facts.push(response.generator);
  return facts.join(" · ");
}

const WIDE = 150, HIGH = 34;

/** The values at the steps' ends as a line about the centre of the scale, the start included where it is 0. */
function sparkline(response, scale) {
  const raw = response.values.length ? response.values : scale.probabilities ? response.rewards : response.values;
  const points = raw.map((y, s) => [s + 1, y, s]).filter(([, y]) => y !== null);
  if (points.length < 2 && !(points.length && !scale.probabilities)) return null;
  if (!scale.probabilities) points.unshift([0, 0, -1]);
  const ys = [scale.centre, ...points.map(([, y]) => y)];
  const [low, high] = scale.probabilities ? [0, 1] : [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
  const x = (s) => (3 + ((WIDE - 6) * s) / raw.length).toFixed(1);
  const y = (v) => (HIGH - 4 - ((HIGH - 8) * (v - low)) / (high - low || 1)).toFixed(1);
  const dot = (name, [s, v]) => svg("circle", { class: name, cx: x(s), cy: y(v), r: 2.6 });
  const down = lowest(response);
  const marks = points.flatMap((point) => [
    point[2] === down ? dot("down", point) : null, point[2] >= 0 && point[2] === response.first_error ? dot("error", point) : null,
  ].filter(Boolean));
  const words = scale.probabilities ? "step rewards" : "values at the steps' ends";
  return svg(
    "svg", { class: "spark", viewBox: `0 0 ${WIDE} ${HIGH}`, width: WIDE, height: HIGH, role: "img", "aria-label": words },
    svg("line", { x1: 0, x2: WIDE, y1: y(scale.centre), y2: y(scale.centre) }),
    svg("polyline", { points: points.map(([s, v]) => `${x(s)},${y(v)}`).join(" ") }), ...marks);
}

