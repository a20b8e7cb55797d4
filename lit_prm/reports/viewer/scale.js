// Numbers as text and as colour.

/** Digits that tell rewards of this reach apart. */
function shown(number, reach = 1) {
  if (number === null || number === undefined) return "–";
  if (number !== 0 && Math.abs(number) < 1e-4) return minus(number.toExponential(1));
  const digits = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(reach))));
  return minus(number.toFixed(digits));
}

const signed = (number, reach) => (number > 0 ? "+" : "") + shown(number, reach);
const minus = (text) => text.replaceAll("-", "−");
const reward = (number, scale) => (scale.probabilities ? shown(number) : signed(number, scale.reach));

/**
 * Colours an element by a reward: the style sheet mixes `--s` of the low or high colour into the paper. Rewards
 * without bounds have long tails: by the square root of their size the many small ones differ too.
 */
function shade(node, number, scale) {
  if (number === null || number === undefined) {
    node.classList.add("unscored");
    return node;
  }
  const part = Math.max(-1, Math.min(1, (number - scale.centre) / scale.reach));
  node.classList.add(part < 0 ? "low" : "high");
  node.style.setProperty("--s", (scale.probabilities ? Math.abs(part) : Math.sqrt(Math.abs(part))).toFixed(3));
  return node;
}

function legend(index) {
  const bars = [legendBar("step reward", index.steps)];
  if (index.tokens) bars.push(legendBar("token reward", index.tokens));
  return bars;
}

function legendBar(name, scale) {
  const { centre, reach, probabilities } = scale;
  const end = (number) => make("span", "number", reward(number, scale));
  const cells = Array.from({ length: 13 }, (_, i) =>
    shade(make("i", "cell"), centre + (reach * (i - 6)) / 6, scale));
  const bar = make("span", "bar", ...cells);
  const rule = probabilities
    ? "All rewards lie in [0, 1]: the scale is centred at 0.5."
    : `The scale is centred at 0, and colour grows with the square root of the size. 95 % of the rewards lie within ±${shown(reach, reach)}; rewards outside have the colour of the end.`;
  const node = make("span", "scale", make("span", "name", name), end(centre - reach), bar, end(centre + reach));
  return told(node, { title: rule, role: "img", "aria-label": `${name}: orange below, blue above. ${rule}` });
}

