// The data blocks of the page, unpacked: base64, zlib, JSON.

async function unpack(name) {
  const text = atob(document.getElementById(name).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const KEPT = 8; // problems
const unpacked = new Map();

/** The content of a problem; those looked at last are at hand. */
function problemContent(file, problem) {
  const name = `problem-${file}-${problem}`;
  const found = unpacked.get(name) ?? unpack(name);
  unpacked.delete(name);
  unpacked.set(name, found);
  if (unpacked.size > KEPT) unpacked.delete(unpacked.keys().next().value);
  return found;
}

