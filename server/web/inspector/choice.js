// The head and the token that are chosen: their map, their arcs and their sentence.
import { $ } from "../dom.js";
import * as grid from "./grid.js";
import * as order from "./order.js";
import * as pattern from "./pattern.js";
import * as results from "./results.js";
import { says } from "./saying.js";
import { attending, current, shown } from "./shown.js";
import * as sink from "./sink.js";
import * as tokens from "./tokens.js";

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

let hears = null; // see `mount`

/** `told.load(layer)` brings a pattern that is not here yet; `told.head()` and `told.token()` hear of another choice. */
export function mount(told) {
  hears = told;
  $("heads").addEventListener("keydown", onKey);
  $("layer").addEventListener("change", () => choose(Number($("layer").value), shown.chosen.head));
  $("head").addEventListener("change", () => choose(shown.chosen.layer, Number($("head").value)));
  addEventListener("resize", () => shown.found && !$("inspector").hidden && drawArcs());
}

export function choose(layer, head) {
  const { found } = shown;
  shown.chosen = { ...shown.chosen, layer, head };
  const at = current();
  if (found?.end && !at) hears.load(layer);
  grid.press(layer, head);
  $("layer").value = layer;
  $("head").value = head;
  if (!at) return;
  pattern.large($("large"), sink.displayed(at.pattern), head, found.start.tokens, pointAt);
  pointAt(null, null);
  if (found.end) hears.head();
}

/** A token by a click; the same once more takes the choice back. */
export function pick(index) {
  shown.chosen.query = shown.chosen.query === index ? null : index;
  pointAt(index, null);
  drawContributions();
  hears.token();
}

/** A token (and perhaps one it looks at) is pointed at: shade the others, draw its arcs, say it in words. */
export function pointAt(query, key) {
  const layer = current();
  if (!layer) return;
  const { chosen, found } = shown;
  const asking = query ?? chosen.query;
  const { tokens: names } = found.start;
  const drawn = sink.displayed(layer.pattern);
  tokens.shade(asking, chosen.query, (i) => pattern.weight(drawn, chosen.head, asking, i));
  pattern.mark($("large"), asking, key, names.length);
  chosen.shown = asking;
  drawArcs();
  $("says").textContent = says({ layers: found.layers, tokens: names }, chosen, layer.pattern, asking, key);
}

function drawArcs() {
  const layer = current();
  if (layer) pattern.arcs($("arcs"), tokens.buttons(), sink.displayed(layer.pattern), shown.chosen.head, shown.chosen.shown);
}

export const drawContributions = () => shown.found?.end && results.contributions(shown.found, shown.chosen.query);

function onKey(event) {
  const move = MOVES[event.key];
  const { found, chosen } = shown;
  if (!move || !found) return;
  event.preventDefault();
  if (order.kind()) {
    const next = grid.beside(event.key);
    if (next) choose(next.layer, next.head);
    grid.focus();
    return;
  }
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  const rows = attending();
  const row = rows[within(rows.indexOf(chosen.layer) + move[0], rows.length)];
  choose(row, within(chosen.head + move[1], found.start.num_heads));
  grid.focus();
}
