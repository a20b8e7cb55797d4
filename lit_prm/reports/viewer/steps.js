// A step: its number, its reward, its text, and on demand its tokens.

function stepBlock(response, s, scale, tokenScale) {
  const number = response.rewards[s];
  const marks = stepMarks(response, s);
  const head = make(
    tokenScale && response.pieces[s].length ? "button" : "span", "gutter",
    make("span", "index", `${s + 1}`),
    make("span", "number", reward(number, scale)),
  );
  const words = `step ${s + 1}, ${number === null ? "no reward" : `reward ${reward(number, scale)}`}`;
  const block = make("div", "step", head, make("div", "body", marks, stepText(response.steps[s])));
  shade(block, number, scale);
  if (head.tagName === "BUTTON") {
    told(head, { "aria-expanded": "false", "aria-label": `${words}: tokens`, title: "tokens" });
    block.addEventListener("click", (event) => clickedStep(event, block));
    block.tokens = () => tokenText(response, s, tokenScale);
    block.plain = () => stepText(response.steps[s]);
  } else told(head, { "aria-label": words });
  return block;
}

function stepMarks(response, s) {
  const marks = [];
  if (s === lowest(response)) marks.push(make("span", "mark lowest", "▼ lowest"));
  if (s === response.first_error) {
    const kind = response.error_kind ? `: ${response.error_kind}` : "";
    marks.push(make("span", "mark error", `✗ first wrong step${kind}`));
  }
  if (response.rewards[s] === null) marks.push(make("span", "mark", "no reward"));
  return marks.length ? make("span", "marks", ...marks) : null;
}

/** The step with the lowest reward, the first of equals; none of a single one. */
function lowest(response) {
  const known = response.rewards.filter((x) => x !== null);
  return known.length > 1 ? response.rewards.indexOf(Math.min(...known)) : -1;
}

/** The line breaks a step ends with are there for copying, not for the eye. */
function stepText(text) {
  const end = text.trimEnd().length;
  if (end === text.length || end === 0) return prose("div", "text", text);
  const node = prose("div", "text", text.slice(0, end));
  node.append(make("span", "trail", text.slice(end)));
  return node;
}

function clickedStep(event, block) {
  if (event.target.closest(".more, .token") || (!event.target.closest(".gutter") && String(getSelection()))) return;
  showTokens(block, !block.classList.contains("open"));
}

function showTokens(block, open) {
  if (!block.tokens || block.classList.contains("open") === open) return;
  block.classList.toggle("open", open);
  block.querySelector(".gutter").setAttribute("aria-expanded", open);
  block.querySelector(".text").replaceWith(open ? block.tokens() : block.plain());
}

const MANY = 3000; // tokens shown at once

function tokenText(response, s, scale) {
  const node = told(make("div", "text tokens"), { dir: "auto" });
  const pieces = tokenNodes(response, s, scale);
  const more = make("button", "more", "show more tokens");
  const next = () => {
    const { value, done } = take(pieces, MANY);
    more.before(...value);
    if (done) more.remove();
  };
  more.addEventListener("click", next);
  node.append(more);
  next();
  node.querySelector(".token")?.setAttribute("tabindex", "0");
  return node;
}

function take(iterator, count) {
  const value = [];
  for (; count > 0; count--) {
    const next = iterator.next();
    if (next.done) return { value, done: true };
    value.push(next.value);
  }
  return { value, done: false };
}

function* tokenNodes(response, s, scale) {
  const text = response.steps[s];
  const end = text.trimEnd().length;
  let at = 0;
  for (const [i, length] of response.pieces[s].entries()) {
    yield tokenNode(text.slice(at, at + length), end - at, response.piece_rewards[s][i], scale);
    at += length;
  }
}

/** Line breaks named, as tokens may be made of them; those from `end` on, where the step has no more words, break no line. */
function lines(text, end) {
  if (end > 0 && end < text.length) return [...lines(text.slice(0, end), end), ...lines(text.slice(end), 0)];
  const name = (part) => (part === "\n" ? make("span", end <= 0 ? "break trails" : "break", part) : part);
  return visible(text).flatMap((part) => (typeof part === "string" ? part.split(/(\n)/).map(name) : [part]));
}

/** One piece of text: a token, several that share a character, or text no token was scored for. */
function tokenNode(text, end, found, scale) {
  if (found === null) return make("span", "untold", ...lines(text, end));
  const several = (Array.isArray(found) ? found : [found]).map((whole) => whole / 10 ** scale.digits);
  const sum = several.reduce((a, b) => a + b, 0);
  const node = make("span", text ? "token" : "token nothing", ...lines(text, end));
  const words = several.map((x) => reward(x, scale)).join(", ");
  node.dataset.reward = several.length > 1 ? `${several.length} tokens ${words}` : text ? words : `end ${words}`;
  return shade(told(node, { tabindex: "-1", "aria-label": `${text.trim() || "space"}: ${words}` }), sum, scale);
}

