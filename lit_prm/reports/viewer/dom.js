// Elements from text. What a file says becomes text nodes and plain attributes, never markup.

const byId = (id) => document.getElementById(id);

function make(tag, name = "", ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function told(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// Controls, bidi controls, line separators, invisible and unpaired code units; a line break of Windows is none.
const UNSEEN =
  /((?!\r\n)[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\p{Cs}\u{e0000}-\u{e007f}])\1*/gu;

/** Text nodes that join to the text; what would not be seen, or would reorder it, is isolated and named. */
function visible(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (found.index > at) parts.push(text.slice(at, found.index));
    parts.push(unseen(found[0], found[1]));
    at = found.index + found[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

function unseen(run, one) {
  const count = run.length / one.length;
  const code = `U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const node = make("span", "unseen", run);
  node.dataset.code = count > 1 ? `${code}×${count}` : code;
  return node;
}

const LONG = 20000; // characters shown at once

/** An element whose text is the given one; of a long one the rest comes on demand. */
function prose(tag, name, text) {
  const node = told(make(tag, name), { dir: "auto" });
  if (text.length <= LONG * 1.1) {
    node.append(...visible(text));
    return node;
  }
  const cut = text.codePointAt(LONG - 1) > 0xffff ? LONG + 1 : LONG;
  const more = make("button", "more", `show the other ${(text.length - cut).toLocaleString("en")} characters`);
  more.addEventListener("click", (event) => {
    event.stopPropagation();
    more.replaceWith(...visible(text.slice(cut)));
  });
  node.append(...visible(text.slice(0, cut)), more);
  return node;
}

function svg(tag, attributes, ...children) {
  const node = told(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
  node.append(...children);
  return node;
}

