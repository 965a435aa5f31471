// A text arrives, event by event, and each view draws what came.
import { $, el } from "../dom.js";
import { choose, drawContributions, pick, pointAt } from "./choice.js";
import * as causes from "./causes/causes.js";
import * as grid from "./grid.js";
import * as kinds from "./kinds.js";
import * as order from "./order.js";
import * as pattern from "./pattern.js";
import { inspect, lensPositions, limits, ranksOf } from "./reading.js";
import * as results from "./results.js";
import { attending, NOTHING, shown } from "./shown.js";
import * as tokens from "./tokens.js";

let colors = null;

/** Reads a text: {ids, text, answerAt}, asked for as `asked`. `hears.begun()` when the first event is here,
 * `hears.next(look)` of a guess that is clicked, `hears.status(says)`. How much was read is given back, in words. */
export async function receive({ ids, text, answerAt }, asked, hears, signal) {
  const { numTokens, layers, hasAll, untold } = await limits(ids.length, signal);
  const kept = ids.slice(-numTokens);
  const numCut = ids.length - kept.length;
  $("look-text").value = text;
  $("cut").hidden = !numCut;
  $("cut").textContent = `The text has ${ids.length} tokens; its last ${kept.length} are shown, as many as the server looks into.`;
  colors = pattern.heatColors();
  const fresh = { ids: kept, text, answerAt: answerAt === null ? null : answerAt - numCut, layers: [], end: null };
  const isTyped = asked.text !== undefined && !asked.ids;
  fresh.asked = isTyped ? { text } : { ids: kept, answerAt: fresh.answerAt };
  const parts = ["norms", "logit_lens", "surprisal"];
  if (hasAll) parts.push("pattern");
  if (!kinds.areKnown() && !untold.head_scores) parts.push("head_scores");
  for await (const event of inspect(kept, { include: parts, top_logprobs: 10, lens_positions: lensPositions(kept.length) }, signal)) take(event, fresh, hears);
  if (!hasAll) await readPatterns(layers, signal, hears);
  const { start, layers: read } = shown.found;
  const some = hasAll ? "" : ` · ${layers.length} layers' patterns at once, the others as you choose them`;
  return { size: `${kept.length} tokens · ${read.length} layers × ${start.num_heads} heads`, some };
}

function take(event, fresh, hears) {
  if (event.object === "inspection.start") {
    begin({ ...fresh, start: event });
    hears.begun();
  }
  if (event.object === "inspection.layer") addLayer(event, hears);
  if (event.object === "inspection.end") end(event, hears);
}

/** The patterns of some layers of the text that is shown. */
export async function readPatterns(layers, signal, hears) {
  for await (const event of inspect(shown.found.ids, { include: ["pattern"], layers, top_logprobs: 1 }, signal)) {
    if (event.object === "inspection.layer") addLayer(event, hears);
  }
}

function begin(fresh) {
  const { start } = (shown.found = fresh);
  shown.chosen = { ...NOTHING };
  $("inspection").hidden = false;
  grid.begin(start.num_heads);
  tokens.draw(start.tokens, fresh.answerAt, (index) => pointAt(index, null), pick);
  const numbers = (count) => Array.from({ length: count }, (_, i) => el("option", { value: i }, String(i)));
  $("layer").replaceChildren(...numbers(start.num_layers));
  $("head").replaceChildren(...numbers(start.num_heads));
  causes.clear(start.tokens.length);
  results.parameters(shown.found);
}

/** A layer has come, or only its pattern. */
function addLayer({ layer: number, norms, logit_lens: lens, pattern: packed }, hears) {
  const { found } = shown;
  const layer = (found.layers[number] ??= { layer: number });
  if (norms) Object.assign(layer, { norms, logit_lens: lens });
  hears.status(`Layer ${number + 1} of ${found.start.num_layers}…`);
  if (!packed) return;
  layer.pattern = pattern.patternOf(packed);
  if (found.end && order.kind()) drawHeads();
  else grid.addRow(layer, colors, choose);
  $("layer").options[number].disabled = !layer.pattern.heads;
  if (number === attending()[0]) choose(number, 0);
}

function end(event, hears) {
  const { found } = shown;
  found.end = event;
  if (event.surprisal) tokens.tellSurprise(event.surprisal);
  if (event.head_scores) kinds.keep(event.head_scores);
  results.lens(found);
  results.nextTokens(found, (guess) => hears.next({ text: found.text + guess.token, ids: [...found.ids, guess.id] }));
  drawContributions();
}

/** All heads that are here, in the order that is chosen. */
export function drawHeads() {
  const { found, chosen } = shown;
  $("order").disabled = !kinds.areKnown();
  if (order.kind()) order.draw(found.layers, colors, choose);
  else {
    grid.begin(found.start.num_heads);
    for (const layer of found.layers) if (layer.pattern) grid.addRow(layer, colors, choose);
  }
  grid.label();
  grid.dim(causes.made().edits);
  grid.press(chosen.layer, chosen.head);
}

/** How far down the guesses the model's answer is in each layer: known only once the answer is. */
export async function follow(signal) {
  const of = shown.found;
  try {
    of.ranks = await ranksOf(of.ids, of.end.next_token.at(-1)[0].id, signal);
    if (shown.found === of) results.ranks(of);
  } catch (error) {
    if (!signal.aborted) $("lens-rank").textContent = error.message;
  }
}

/** The same in other colors, or with the first token hidden. */
export function redraw() {
  const { found, chosen } = shown;
  if (!found) return;
  colors = pattern.heatColors();
  grid.repaint(found.layers, colors);
  choose(chosen.layer, chosen.head);
}
