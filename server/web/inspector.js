// Looking inside: one text goes to /v1/inspect, and each view draws what came back, layer by layer.
import { $, el, percent, visible } from "./dom.js";
import { post, server, stream } from "./api.js";
import * as causes from "./causes.js";
import * as charts from "./charts.js";
import * as pattern from "./pattern.js";

const EXAMPLE = "Greasy fried noodles will be my lunch";
const MAX_TOKENS = 96; // what is still legible; the server takes more
const MAX_LENS = 64;

const LENS_HINT = "Point at a cell to read its likeliest guesses; a dot (·) in a token is a space.";
const SHARE_HINT = "Point at a layer to read its numbers.";

let text = EXAMPLE;
let ids = null; // of `text`, where they are known already
let found = null; // {start, layers, end} of the text that is shown
let chosen = { layer: 0, head: 0, query: null, shown: null }; // query: clicked; shown: pointed at, or clicked
let controller = null;
let colors = null;

export function mount() {
  $("look-text").value = text;
  $("look-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look($("look-text").value);
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
  causes.mount(() => chosen, () => found.start.tokens.map((token) => token.id), choose);
  addEventListener("theme", redraw);
  addEventListener("resize", () => found && !$("inspector").hidden && drawArcs());
}

/** The text to look at next, and its token ids if they are known. */
export function look(next, nextIds = null) {
  text = next;
  ids = nextIds;
  $("look-text").value = next;
  found = null;
}

export function show() {
  if (!found && server.model) run();
}

async function run() {
  controller?.abort();
  const mine = (controller = new AbortController());
  found = null;
  status("Looking inside…");
  $("inspection").setAttribute("aria-busy", "true");
  try {
    ids ??= await tokenize(text, mine.signal);
    await receive(cut(ids), mine.signal);
  } catch (error) {
    if (error.name !== "AbortError") status(error.message, true);
  } finally {
    if (controller === mine) $("inspection").removeAttribute("aria-busy");
  }
}

async function tokenize(whole, signal) {
  return (await (await post("/tokenize", { model: server.model, prompt: whole, add_special_tokens: false }, signal)).json()).tokens;
}

/** The text's end: as many tokens as can be looked at with comfort. */
function cut(tokens) {
  const kept = tokens.slice(-MAX_TOKENS);
  $("cut").hidden = kept.length === tokens.length;
  $("cut").textContent = `The text has ${tokens.length} tokens; its last ${MAX_TOKENS} are shown.`;
  return kept;
}

async function receive(tokens, signal) {
  const started = performance.now();
  const response = await post("/v1/inspect", {
    model: server.model, prompt: tokens, stream: true, encoding_format: "base64", top_logprobs: 10,
    include: ["pattern", "norms", "logit_lens", "surprisal"],
    lens_positions: tokens.length <= MAX_LENS ? "all" : "last",
  }, signal);
  colors = pattern.heatColors();
  for await (const event of stream(response)) {
    if (event.object === "inspection.start") begin(event);
    if (event.object === "inspection.layer") addLayer(event);
    if (event.object === "inspection.end") end(event);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  status(`${found.start.tokens.length} tokens · ${found.layers.length} layers × ${found.start.num_heads} heads · ${seconds} s`);
}

function begin(start) {
  found = { start, layers: [], end: null };
  chosen = { layer: 0, head: 0, query: null, shown: null };
  $("inspection").hidden = false;
  const corner = el("span", { class: "corner" }, "layer");
  const numbered = Array.from({ length: start.num_heads }, (_, i) => el("span", { class: "head-name" }, String(i)));
  $("heads").replaceChildren(corner, ...numbered);
  $("heads").style.setProperty("--heads", start.num_heads);
  $("tokens").replaceChildren(...start.tokens.map(tokenButton));
  const numbers = (count) => Array.from({ length: count }, (_, i) => el("option", { value: i }, String(i)));
  $("layer").replaceChildren(...numbers(start.num_layers));
  $("head").replaceChildren(...numbers(start.num_heads));
  causes.clear(start.tokens.length);
  drawParameters();
}

function tokenButton(token, index) {
  const point = () => pointAt(index, null);
  return el("button", {
    type: "button", class: "token", title: `token ${index}: id ${token.id}`, "aria-pressed": "false",
    onpointerenter: point, onfocus: point, onpointerleave: () => pointAt(null, null),
    onclick: () => {
      chosen.query = chosen.query === index ? null : index;
      pointAt(index, null);
      drawContributions();
    },
  }, visible(token.token));
}

function addLayer(event) {
  const layer = { ...event, pattern: pattern.unpack(event.pattern) };
  found.layers.push(layer);
  const thumbs = Array.from({ length: layer.pattern.heads }, (_, head) =>
    pattern.thumbnail(layer.pattern, layer.layer, head, colors, choose));
  $("heads").append(el("span", { class: "layer-name", "aria-hidden": "true" }, String(layer.layer)), ...thumbs);
  if (layer.layer === 0) choose(0, 0);
  status(`Layer ${layer.layer + 1} of ${found.start.num_layers}…`);
}

function end(event) {
  found.end = event;
  tellSurprise(event.surprisal);
  const [layer, head] = tellingHead();
  choose(layer, head);
  drawLens();
  drawNext();
  drawContributions();
}

/** Under each token but the first: how little it was expected, in nats. */
function tellSurprise({ nats, rank }) {
  [...$("tokens").children].slice(1).forEach((button, i) => {
    button.append(el("small", { "aria-hidden": "true" }, nats[i].toFixed(1)));
    button.title += `; ${nats[i].toFixed(2)} nats of surprise, ${rank[i].toLocaleString("en")} tokens were likelier`;
  });
}

/** The head that looks around most: neither at itself nor, as many do, at the first token alone. */
function tellingHead() {
  let best = [-1, 0, 0];
  for (const { layer, pattern: p } of found.layers) {
    for (let head = 0; head < p.heads; head++) {
      let score = 0;
      for (let q = 2; q < p.size; q++) {
        for (let k = 1; k < q; k++) score += pattern.weight(p, head, q, k) ** 2;
      }
      if (score > best[0]) best = [score, layer, head];
    }
  }
  return best.slice(1);
}

function choose(layer, head) {
  chosen = { ...chosen, layer, head };
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const isIt = Number(thumb.dataset.layer) === layer && Number(thumb.dataset.head) === head;
    thumb.setAttribute("aria-pressed", String(isIt));
    thumb.tabIndex = isIt ? 0 : -1;
    if (isIt) keepInView(thumb);
  }
  $("layer").value = layer;
  $("head").value = head;
  const shown = current();
  if (!shown) return;
  pattern.large($("large"), shown.pattern, head, found.start.tokens, pointAt);
  pointAt(null, null);
}

/** Scrolls the grid, and not the page. */
function keepInView(thumb) {
  const frame = $("heads").getBoundingClientRect();
  const box = thumb.getBoundingClientRect();
  const top = frame.top + $("heads").firstElementChild.offsetHeight;
  if (box.top < top) $("heads").scrollTop -= top - box.top + 4;
  if (box.bottom > frame.bottom) $("heads").scrollTop += box.bottom - frame.bottom + 4;
}

function current() {
  return found?.layers.find((layer) => layer.layer === chosen.layer);
}

function onKey(event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const move = moves[event.key];
  if (!move || !found) return;
  event.preventDefault();
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  choose(within(chosen.layer + move[0], found.layers.length), within(chosen.head + move[1], found.start.num_heads));
  $("heads").querySelector('[aria-pressed="true"]').focus();
}

/** A token (and perhaps one it looks at) is pointed at: shade the others, draw its arcs, say it in words. */
function pointAt(query, key) {
  const layer = current();
  if (!layer) return;
  const shown = query ?? chosen.query;
  const { tokens } = found.start;
  [...$("tokens").children].forEach((button, i) => {
    const share = shown === null || i > shown ? 0 : pattern.weight(layer.pattern, chosen.head, shown, i);
    button.style.setProperty("--share", `${Math.round(Math.sqrt(share) * 100)}%`);
    button.classList.toggle("unseen", shown !== null && i > shown);
    button.classList.toggle("asking", i === shown);
    button.setAttribute("aria-pressed", String(i === chosen.query));
  });
  pattern.mark($("large"), shown, key, tokens.length);
  chosen.shown = shown;
  drawArcs();
  $("says").textContent = shown === null
    ? `Layer ${chosen.layer}, head ${chosen.head} ${pattern.habit(layer.pattern, chosen.head)}. Point at a token, or at the map, to see what it looks at; a click keeps it.`
    : pattern.sentence(layer.pattern, chosen.head, tokens, shown, key);
}

function drawArcs() {
  const layer = current();
  if (layer) pattern.arcs($("arcs"), [...$("tokens").children], layer.pattern, chosen.head, chosen.shown);
}

function drawLens() {
  const { layers, start, end: last } = found;
  $("lens").replaceChildren(charts.lens(layers, last.next_token, start.tokens, start.lens_positions, (says) => ($("lens-says").textContent = says)));
  $("lens-says").textContent = LENS_HINT;
}

function drawNext() {
  const guesses = found.end.next_token.at(-1);
  $("next").replaceChildren(...charts.nextTokens(guesses, (guess) => {
    look(text + guess.token, [...ids, guess.id]);
    run();
  }));
}

function drawContributions() {
  if (!found?.end) return;
  const position = chosen.query ?? found.start.tokens.length - 1;
  const tell = (says) => ($("contributions-says").textContent = says);
  const { node, share } = charts.contributions(found.layers, position, tell);
  $("contributions").replaceChildren(node);
  tell(SHARE_HINT);
  $("contribution-of").textContent = `Of the lengths added to “${visible(found.start.tokens[position].token)}” attention has ${percent(share)}, the MLPs have ${percent(1 - share)}; click a token above for another.`;
}

function drawParameters() {
  const { nodes, share, total } = charts.parameters(found.start.parameters);
  $("parameters").replaceChildren(...nodes);
  $("parameter-share").textContent = `${charts.millions(total)} weights. Of those inside the layers, attention has ${percent(share)}.`;
}

function redraw() {
  if (!found) return;
  colors = pattern.heatColors();
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const { layer, head } = thumb.dataset;
    const shown = found.layers.find((other) => other.layer === Number(layer));
    pattern.paint(thumb.firstChild, shown.pattern, Number(head), colors);
  }
  choose(chosen.layer, chosen.head);
}

function status(says, isError = false) {
  $("look-status").textContent = says;
  $("look-status").classList.toggle("error", isError);
}
