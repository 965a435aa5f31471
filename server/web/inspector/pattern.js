// Attention patterns: a small heat map of every head, one of them large, and the same as arcs over the tokens.
// A pattern is a Float32Array [head, query, key]; rows are queries, columns are the keys they look at.
import { el, percent, rgb, svg, visible } from "../dom.js";
import { unpack } from "../packed.js";

const MAX_LABELS = 48; // tokens that still get a name beside the large heat map
const MAX_ARCS = 96; // tokens whose arcs can still be told apart if all are drawn

/** The number at [head, query, key] of a layer's pattern. */
export function weight(pattern, head, query, key) {
  const size = pattern.size;
  return pattern.values[(head * size + query) * size + key];
}

/** A packed pattern -> {values, heads, size}. */
export function patternOf(packed) {
  const { shape, values } = unpack(packed);
  return { values, heads: shape[0], size: shape[2] };
}

/** Paints one head on a canvas of size x size pixels; what the mask hides has a color of its own. */
export function paint(canvas, pattern, head, colors) {
  const size = pattern.size;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  for (let query = 0; query < size; query++) {
    for (let key = 0; key < size; key++) {
      const at = 4 * (query * size + key);
      // The root brings out small weights; the scale is the same for every head.
      const share = Math.sqrt(weight(pattern, head, query, key));
      for (let i = 0; i < 3; i++) {
        image.data[at + i] = key > query ? colors.mask[i] : colors.low[i] + share * (colors.high[i] - colors.low[i]);
      }
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

export function heatColors() {
  return { low: rgb("--heat-low"), high: rgb("--heat-high"), mask: rgb("--mask") };
}

/** A button with the head's picture. */
export function thumbnail(pattern, layer, head, colors, pick) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  paint(canvas, pattern, head, colors);
  const label = `Layer ${layer}, head ${head}`;
  return el("button", {
    type: "button", class: "thumb", "aria-label": label, title: label, "aria-pressed": "false",
    "data-layer": layer, "data-head": head, tabindex: -1, onclick: () => pick(layer, head),
  }, canvas);
}

/** The large heat map with its labels. `hover(query, key)` is told where the pointer is, or null. */
export function large(node, pattern, head, tokens, hover) {
  const canvas = el("canvas", { class: "heat", role: "img", "aria-label": `Attention of ${tokens.length} tokens, queries down, keys across` });
  paint(canvas, pattern, head, heatColors());
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = (value, start, length) =>
      Math.min(tokens.length - 1, Math.max(0, Math.floor(((value - start) / length) * tokens.length)));
    return [place(event.clientY, box.top, box.height), place(event.clientX, box.left, box.width)];
  };
  canvas.addEventListener("pointermove", (event) => hover(...at(event)));
  canvas.addEventListener("pointerdown", (event) => hover(...at(event)));
  canvas.addEventListener("pointerleave", () => hover(null, null));
  const names = tokens.length <= MAX_LABELS ? tokens : [];
  const rows = el("div", { class: "labels rows", "aria-hidden": "true" }, ...names.map((t) => el("span", {}, visible(t.token))));
  const columns = el("div", { class: "labels columns", "aria-hidden": "true" }, ...names.map((t) => el("span", {}, visible(t.token))));
  const small = tokens.length > 24 ? " tight" : "";
  node.replaceChildren(el("div", { class: `heat-frame${small}${names.length ? "" : " bare"}` }, columns, rows, canvas));
}

/** Marks a row (and a cell) of the large heat map, by lines over it. */
export function mark(node, query, key, size) {
  const frame = node.querySelector(".heat-frame");
  if (!frame) return;
  frame.querySelector(".heat-mark")?.remove();
  if (query === null) return;
  const unit = 100 / size;
  const row = svg("rect", { x: 0, y: query * unit, width: (query + 1) * unit, height: unit, class: "row-mark" });
  const cell = key === null ? null : svg("rect", { x: key * unit, y: query * unit, width: unit, height: unit, class: "cell-mark" });
  frame.append(svg("svg", { class: "heat-mark", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, row, cell));
}

/** Arcs over the row of token buttons: from the chosen token to what it looks at, or all strong ones. */
export function arcs(node, buttons, pattern, head, query) {
  const origin = node.getBoundingClientRect();
  const centers = buttons.map((button) => {
    const box = button.getBoundingClientRect();
    return { x: box.left - origin.left + box.width / 2, y: box.top - origin.top };
  });
  const lines = [];
  if (query === null && buttons.length > MAX_ARCS) return node.replaceChildren();
  const queries = query === null ? centers.keys() : [query];
  for (const from of queries) {
    for (let to = 0; to <= from; to++) {
      const share = weight(pattern, head, from, to);
      if (share < (query === null ? 0.15 : 0.01)) continue;
      lines.push(arc(centers[from], centers[to], share));
    }
  }
  return node.replaceChildren(...lines);
}

function arc(from, to, share) {
  const height = Math.min(90, 14 + Math.abs(from.x - to.x) * 0.22);
  const top = Math.min(from.y, to.y) - height;
  const loops = from === to;
  const path = loops
    ? `M${from.x - 4},${from.y} C${from.x - 12},${from.y - 22} ${from.x + 12},${from.y - 22} ${from.x + 4},${from.y}`
    : `M${from.x},${from.y} C${from.x},${top} ${to.x},${top} ${to.x},${to.y}`;
  return svg("path", { d: path, class: "arc", "stroke-width": (0.6 + share * 5).toFixed(2), "stroke-opacity": (0.15 + share * 0.85).toFixed(2) });
}

/** The head that looks around most: neither at itself nor, as many do, at the first token alone. */
export function tellingHead(layers) {
  let best = [-1, 0, 0];
  for (const { layer, pattern: p } of layers) {
    if (!p) continue;
    for (let head = 0; head < p.heads; head++) {
      let score = 0;
      for (let q = 2; q < p.size; q++) {
        for (let k = 1; k < q; k++) score += weight(p, head, q, k) ** 2;
      }
      if (score > best[0]) best = [score, layer, head];
    }
  }
  return best.slice(1);
}

/** What a token takes most from. */
export function strongestKey(pattern, head, query) {
  const row = pattern.values.subarray((head * pattern.size + query) * pattern.size, (head * pattern.size + query + 1) * pattern.size);
  return row.indexOf(Math.max(...row));
}

/** The head of all whose patterns are here that takes most from one token for another: {layer, head, share}. */
export function strongest(layers, query, key) {
  let best = { layer: 0, head: 0, share: -1 };
  for (const { layer, pattern: p } of layers) {
    for (let head = 0; head < (p?.heads ?? 0); head++) {
      const share = weight(p, head, query, key);
      if (share > best.share) best = { layer, head, share };
    }
  }
  return best;
}

/** What a head mostly does, in words: the habits that most heads have. */
export function habit(pattern, head) {
  const mean = (key) => {
    const queries = Array.from({ length: Math.max(0, pattern.size - 2) }, (_, i) => i + 2); // earlier, all of them are one
    return queries.reduce((sum, query) => sum + weight(pattern, head, query, key(query)), 0) / (queries.length || 1);
  };
  const habits = [
    ["the first token, where heads look that find nothing", mean(() => 0)],
    ["the token before", mean((query) => query - 1)],
    ["the token itself", mean((query) => query)],
  ].sort((a, b) => b[1] - a[1]);
  const [name, share] = habits[0];
  return share > 0.5 ? `looks mostly at ${name} (${percent(share)})` : "looks at several tokens";
}

/** In words: what one token looks at most. */
export function sentence(pattern, head, tokens, query, key) {
  const name = (i) => `“${visible(tokens[i].token)}”`;
  if (key !== null && key > query) return `${name(query)} cannot see ${name(key)}: it comes later. That is the causal mask.`;
  if (key !== null) return `${name(query)} takes ${percent(weight(pattern, head, query, key))} from ${name(key)}.`;
  const best = Array.from({ length: query + 1 }, (_, i) => [weight(pattern, head, query, i), i])
    .sort((a, b) => b[0] - a[0]).slice(0, 3);
  return `${name(query)} looks at ${best.map(([share, i]) => `${name(i)} ${percent(share)}`).join(", ")}.`;
}
