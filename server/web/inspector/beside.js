// Another text beside the one that is shown: the same head's map of both, and what either would say next.
import { $, el, percent, visible } from "../dom.js";
import { comparison } from "./causes/comparison.js";
import { large, patternOf } from "./pattern.js";
import { inspect, tokensOf } from "./reading.js";
import { says } from "./saying.js";
import { displayed } from "./sink.js";

const HINT = "Point at a map to read it; drag a token of the other text onto one of this to patch.";

let look = null; // what is shown, see `mount`
let other = null; // {text, ids, tokens, next, patterns: {layer: pattern}}
let controller = null;

/** `shown` tells of what is looked at: `found()`, `chosen()` -> {layer, head}; `changed()` is told of another text,
 * `pick(from, index)` of a token that is clicked. */
export function mount(shown) {
  look = shown;
  $("beside-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("beside-text").value;
    if (text) put(text).then(look.changed);
    else takeAway();
  });
  $("beside-off").addEventListener("click", takeAway);
}

export const text = () => other?.text ?? null;
export const tokens = () => other?.tokens ?? [];
export const ids = () => other?.ids ?? null;

function takeAway() {
  clear();
  look.changed();
  $("beside-text").focus();
}

export function clear() {
  controller?.abort();
  other = null;
  $("beside-text").value = $("beside-says").textContent = "";
  $("beside").hidden = $("beside-off").hidden = true;
  $("beside").replaceChildren();
}

/** Reads a text and shows it; what fails is said in its place. */
export async function put(wanted) {
  controller?.abort();
  const { signal } = (controller = new AbortController());
  other = null;
  $("beside-text").value = wanted;
  $("beside-says").textContent = "Looking inside…";
  try {
    const { ids: found } = await tokensOf({ text: wanted }, signal);
    const fresh = { text: wanted, ids: found, patterns: {} };
    await read(fresh, signal);
    other = fresh;
    draw();
  } catch (error) {
    if (!signal.aborted) $("beside-says").textContent = error.message;
  }
}

/** The patterns of the layer that is chosen. */
async function read(of, signal) {
  const { layer } = look.chosen();
  for await (const event of inspect(of.ids, { include: ["pattern"], layers: [layer], top_logprobs: 6 }, signal)) {
    if (event.object === "inspection.start") of.tokens = event.tokens;
    if (event.object === "inspection.layer") of.patterns[layer] = patternOf(event.pattern);
    if (event.object === "inspection.end") of.next = event.next_token.at(-1);
  }
}

/** Another head is chosen. */
export async function moved() {
  if (!other) return;
  const of = other;
  const { signal } = controller;
  try {
    if (!of.patterns[look.chosen().layer]) await read(of, signal);
    if (other === of) draw();
  } catch (error) {
    if (!signal.aborted) $("beside-says").textContent = error.message;
  }
}

function draw() {
  const { layer } = look.chosen();
  const found = look.found();
  const own = found?.layers[layer]?.pattern;
  if (!own || !other.patterns[layer]) return;
  $("beside").hidden = $("beside-off").hidden = false;
  $("beside").replaceChildren(
    column("This text", "text", found.start.tokens, own),
    column("The other text", "beside", other.tokens, other.patterns[layer]),
    comparison(found.end.next_token.at(-1), other.next, ["next token", "this text", "the other"]));
  $("beside-says").textContent = HINT;
}

function column(title, from, names, pattern) {
  const { layer, head } = look.chosen();
  const map = el("div", {});
  large(map, displayed(pattern), head, names, (query, key) => {
    $("beside-says").textContent = query === null ? HINT : says({ layers: [], tokens: names }, { layer, head }, pattern, query, key);
  });
  const row = names.map((token, index) => el("button", {
    type: "button", class: "token", "data-from": from, "data-index": index, title: `token ${index}: take it for a patch`, onclick: () => look.pick(from, index),
  }, visible(token.token)));
  return el("div", { role: "group", "aria-label": title }, el("h4", {}, title), el("div", { class: "beside-tokens" }, ...row),
    el("p", { class: "caption" }, `Layer ${layer}, head ${head}: ${percent(meanOnFirst(pattern, head))} of the weight goes to the first token.`), map);
}

/** Of the tokens that have a choice. */
function meanOnFirst({ values, size }, head) {
  let sum = 0;
  for (let query = 1; query < size; query++) sum += values[(head * size + query) * size];
  return size > 1 ? sum / (size - 1) : 1;
}
