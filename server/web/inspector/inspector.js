// Looking inside: one text goes to /v1/inspect, and each view draws what came back, layer by layer.
import { $, el, visible } from "../dom.js";
import { server } from "../api.js";
import * as beside from "./beside.js";
import * as causes from "./causes/causes.js";
import * as grid from "./grid.js";
import * as address from "./keep/address.js";
import * as keep from "./keep/keep.js";
import * as kinds from "./kinds.js";
import * as order from "./order.js";
import * as pattern from "./pattern.js";
import { inspect, lensPositions, limits, ranksOf, tokensOf } from "./reading.js";
import * as results from "./results.js";
import { says } from "./saying.js";
import * as sink from "./sink.js";
import * as tokens from "./tokens.js";

const EXAMPLE = "Greasy fried noodles will be my lunch";

let asked = { text: EXAMPLE }; // {text, ids?} or {messages}; of a link {ids, answerAt?} too
let wanted = null; // what a link wants to be chosen, once its text is here
let found = null; // {ids, answerAt, start, layers, end} of the text that is shown; a layer has {layer, norms, logit_lens, pattern?}
let isStale = false; // another text is asked for: what is shown, and can be worked with, is still the one before
let chosen = { layer: 0, head: 0, query: null, shown: null }; // query: clicked; shown: pointed at, or clicked
let controller = null;
let colors = null;

export function mount() {
  $("look-text").value = asked.text ?? "";
  $("look-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look({ text: $("look-text").value });
    run();
  });
  $("look-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("look-form").requestSubmit();
  });
  $("heads").addEventListener("keydown", onKey);
  $("layer").addEventListener("change", () => choose(Number($("layer").value), chosen.head));
  $("head").addEventListener("change", () => choose(chosen.layer, Number($("head").value)));
  order.mount(() => found?.end && drawHeads());
  $("hide-first").addEventListener("change", () => {
    redraw();
    writeAddress();
  });
  causes.mount({
    chosen: () => chosen, ids: (from) => (from === "beside" ? beside.ids() : found.ids), tokens: tokensFrom, choose,
    changed: (edits) => {
      grid.dim(edits);
      writeAddress();
    },
    name: (from, position) => `“${visible(tokensFrom(from)[position]?.token ?? "")}”`,
  });
  beside.mount({
    found: () => found, chosen: () => chosen, pick: (from, index) => ($("patch-from").value = `${from}/${index}`),
    changed: () => {
      causes.besideChanged();
      writeAddress();
    },
  });
  keep.mount(() => ({ state: state(), found, made: causes.made(), request: causes.request }));
  addEventListener("theme", redraw);
  addEventListener("resize", () => found && !$("inspector").hidden && drawArcs());
}

/** Of the text that is shown, or of the one beside it. */
const tokensFrom = (from) => (from === "beside" ? beside.tokens() : found.start.tokens);

/** What to look at next: {text}, with its token ids if they are known, or the {messages} of a chat. */
export function look(next) {
  asked = next;
  wanted = null;
  if (next.text !== undefined) $("look-text").value = next.text;
  isStale = true;
}

export function show() {
  const linked = address.followed();
  if (linked) {
    look(linked.asked);
    wanted = linked;
    $("hide-first").checked = linked.hidesFirst;
  }
  if (!server.model) return;
  if (found && !isStale) writeAddress();
  else run();
}

/** The state that is shown. */
function state() {
  const { layer, head, query } = chosen;
  const { edits } = causes.made();
  return { asked: found.asked, layer, head, token: query, edits, hidesFirst: sink.isHidden(), beside: beside.text() };
}

function writeAddress() {
  if (!found?.end || wanted) return;
  address.write(state());
  keep.changed();
}

async function run() {
  controller?.abort();
  const mine = (controller = new AbortController());
  if (asked.text === "") {
    $("inspection").removeAttribute("aria-busy");
    return status("Write a text, and the model reads it.");
  }
  status("Looking inside…");
  $("inspection").setAttribute("aria-busy", "true");
  try {
    await receive(await tokensOf(asked, mine.signal), mine.signal);
  } catch (error) {
    if (error.name !== "AbortError") status(error.message, true);
  } finally {
    if (controller === mine) $("inspection").removeAttribute("aria-busy");
  }
  return undefined;
}

async function receive({ ids, text, answerAt }, signal) {
  const started = performance.now();
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
  for await (const event of inspect(kept, { include: parts, top_logprobs: 10, lens_positions: lensPositions(kept.length) }, signal)) take(event, fresh);
  if (!hasAll) await readPatterns(layers, signal);
  begun();
  follow(signal);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const some = hasAll ? "" : ` · ${layers.length} layers' patterns at once, the others as you choose them`;
  status(`${kept.length} tokens · ${found.layers.length} layers × ${found.start.num_heads} heads · ${seconds} s${some}`);
}

/** All is here: what a link wants is chosen, else a head that tells something. */
async function begun() {
  const [layer, head] = pattern.tellingHead(found.layers);
  const { num_layers: layers, num_heads: heads } = found.start;
  const isThere = wanted?.layer < layers && wanted.head < heads && !$("layer").options[wanted.layer].disabled;
  if (wanted?.token < found.ids.length) chosen.query = wanted.token;
  const edits = wanted?.edits ?? [];
  sink.tell(found.layers, found.start.tokens);
  drawHeads();
  choose(...(isThere ? [wanted.layer, wanted.head] : [layer, head]));
  if (chosen.query !== null) drawContributions();
  const of = found;
  const text = wanted ? wanted.beside : beside.text();
  wanted = null;
  if (text) await beside.put(text);
  else if (beside.text() !== null) beside.clear();
  if (found !== of) return;
  causes.moved();
  const possible = edits.filter(({ from }) => from !== "beside" || beside.text());
  if (possible.length) causes.make(possible);
  writeAddress();
}

/** How far down the guesses the model's answer is in each layer: known only once the answer is. */
async function follow(signal) {
  const of = found;
  try {
    of.ranks = await ranksOf(of.ids, of.end.next_token.at(-1)[0].id, signal);
    if (found === of) results.ranks(of);
  } catch (error) {
    if (!signal.aborted) $("lens-rank").textContent = error.message;
  }
}

function take(event, fresh) {
  if (event.object === "inspection.start") begin({ ...fresh, start: event });
  if (event.object === "inspection.layer") addLayer(event);
  if (event.object === "inspection.end") end(event);
}

/** The patterns of some layers of the text that is shown. */
async function readPatterns(layers, signal) {
  for await (const event of inspect(found.ids, { include: ["pattern"], layers, top_logprobs: 1 }, signal)) {
    if (event.object === "inspection.layer") addLayer(event);
  }
}

function begin(fresh) {
  const { start } = (found = fresh);
  isStale = false;
  chosen = { layer: 0, head: 0, query: null, shown: null };
  $("inspection").hidden = false;
  grid.begin(start.num_heads);
  tokens.draw(start.tokens, fresh.answerAt, (index) => pointAt(index, null), pick);
  const numbers = (count) => Array.from({ length: count }, (_, i) => el("option", { value: i }, String(i)));
  $("layer").replaceChildren(...numbers(start.num_layers));
  $("head").replaceChildren(...numbers(start.num_heads));
  causes.clear(start.tokens.length);
  results.parameters(found);
}

function pick(index) {
  chosen.query = chosen.query === index ? null : index;
  pointAt(index, null);
  drawContributions();
  causes.moved();
  writeAddress();
}

/** A layer has come, or only its pattern. */
function addLayer({ layer: number, norms, logit_lens: lens, pattern: packed }) {
  const layer = (found.layers[number] ??= { layer: number });
  if (norms) Object.assign(layer, { norms, logit_lens: lens });
  status(`Layer ${number + 1} of ${found.start.num_layers}…`);
  if (!packed) return;
  layer.pattern = pattern.patternOf(packed);
  if (found.end && order.kind()) drawHeads();
  else grid.addRow(layer, colors, choose);
  $("layer").options[number].disabled = !layer.pattern.heads;
  if (number === attending()[0]) choose(number, 0);
}

/** All heads that are here, in the order that is chosen. */
function drawHeads() {
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

/** The numbers of the layers whose heads look at tokens; others keep a state. */
function attending() {
  return found.layers.filter((layer) => layer?.pattern?.heads).map((layer) => layer.layer);
}

function end(event) {
  found.end = event;
  if (event.surprisal) tokens.tellSurprise(event.surprisal);
  if (event.head_scores) kinds.keep(event.head_scores);
  results.lens(found);
  results.nextTokens(found, (guess) => {
    look({ text: found.text + guess.token, ids: [...found.ids, guess.id] });
    run();
  });
  drawContributions();
}

function choose(layer, head) {
  chosen = { ...chosen, layer, head };
  if (found?.end && !current()) loadChosen();
  grid.press(layer, head);
  $("layer").value = layer;
  $("head").value = head;
  const shown = current();
  if (!shown) return;
  pattern.large($("large"), sink.displayed(shown.pattern), head, found.start.tokens, pointAt);
  pointAt(null, null);
  if (!found.end) return;
  causes.moved();
  beside.moved();
  writeAddress();
}

/** The chosen layer, once its pattern is here. */
function current() {
  const layer = found?.layers[chosen.layer];
  return layer?.pattern ? layer : undefined;
}

/** The pattern of the chosen layer is asked for, and shown if it is still the one that is wanted. */
async function loadChosen() {
  const { layer } = chosen;
  const of = found;
  try {
    await readPatterns([layer], controller.signal);
    grid.label();
    status(`The patterns of layer ${layer} are here too.`);
    if (found === of && chosen.layer === layer) choose(layer, chosen.head);
  } catch (error) {
    if (error.name !== "AbortError") status(error.message, true);
  }
}

function onKey(event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const move = moves[event.key];
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

/** A token (and perhaps one it looks at) is pointed at: shade the others, draw its arcs, say it in words. */
function pointAt(query, key) {
  const layer = current();
  if (!layer) return;
  const shown = query ?? chosen.query;
  const { tokens: names } = found.start;
  const drawn = sink.displayed(layer.pattern);
  tokens.shade(shown, chosen.query, (i) => pattern.weight(drawn, chosen.head, shown, i));
  pattern.mark($("large"), shown, key, names.length);
  chosen.shown = shown;
  drawArcs();
  $("says").textContent = says({ layers: found.layers, tokens: names }, chosen, layer.pattern, shown, key);
}

function drawArcs() {
  const layer = current();
  if (layer) pattern.arcs($("arcs"), tokens.buttons(), sink.displayed(layer.pattern), chosen.head, chosen.shown);
}

const drawContributions = () => found?.end && results.contributions(found, chosen.query);

function redraw() {
  if (!found) return;
  colors = pattern.heatColors();
  grid.repaint(found.layers, colors);
  choose(chosen.layer, chosen.head);
}

function status(says, isError = false) {
  $("look-status").textContent = says;
  $("look-status").classList.toggle("error", isError);
}
