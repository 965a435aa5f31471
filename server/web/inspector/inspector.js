// Looking inside: one text goes to /v1/inspect, and each view draws what came back, layer by layer.
import { $, visible } from "../dom.js";
import { server } from "../api.js";
import * as arrival from "./arrival.js";
import * as beside from "./beside.js";
import * as causes from "./causes/causes.js";
import * as choice from "./choice.js";
import * as grid from "./grid.js";
import * as address from "./keep/address.js";
import * as keep from "./keep/keep.js";
import * as order from "./order.js";
import * as pattern from "./pattern.js";
import { tokensOf } from "./reading.js";
import { shown } from "./shown.js";
import * as sink from "./sink.js";

const EXAMPLE = "Greasy fried noodles will be my lunch";

let asked = { text: EXAMPLE }; // {text, ids?} or {messages}; of a link {ids, answerAt?} too
let wanted = null; // what a link wants to be chosen, once its text is here
let isStale = false; // another text is asked for: what is shown, and can be worked with, is still the one before
let controller = null;

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
  order.mount(() => shown.found?.end && arrival.drawHeads());
  $("hide-first").addEventListener("change", () => {
    arrival.redraw();
    writeAddress();
  });
  choice.mount({ load: loadChosen, head: chosenHead, token: chosenToken });
  causes.mount({
    chosen: () => shown.chosen, ids: (from) => (from === "beside" ? beside.ids() : shown.found.ids), tokens: tokensFrom, choose: choice.choose,
    changed: (edits) => {
      grid.dim(edits);
      writeAddress();
    },
    name: (from, position) => `“${visible(tokensFrom(from)[position]?.token ?? "")}”`,
  });
  beside.mount({
    found: () => shown.found, chosen: () => shown.chosen, pick: (from, index) => ($("patch-from").value = `${from}/${index}`),
    changed: () => {
      causes.besideChanged();
      writeAddress();
    },
  });
  keep.mount(() => ({ state: state(), found: shown.found, made: causes.made(), request: causes.request }));
  addEventListener("theme", arrival.redraw);
}

/** Of the text that is shown, or of the one beside it. */
const tokensFrom = (from) => (from === "beside" ? beside.tokens() : shown.found.start.tokens);

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
  if (shown.found && !isStale) writeAddress();
  else run();
}

/** The state that is shown. */
function state() {
  const { layer, head, query } = shown.chosen;
  const { edits } = causes.made();
  return { asked: shown.found.asked, layer, head, token: query, edits, hidesFirst: sink.isHidden(), beside: beside.text() };
}

function writeAddress() {
  if (!shown.found?.end || wanted) return;
  address.write(state());
  keep.changed();
}

function chosenToken() {
  causes.moved();
  writeAddress();
}

function chosenHead() {
  causes.moved();
  beside.moved();
  writeAddress();
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
    await read(mine.signal);
  } catch (error) {
    if (error.name !== "AbortError") status(error.message, true);
  } finally {
    if (controller === mine) $("inspection").removeAttribute("aria-busy");
  }
  return undefined;
}

const hears = {
  status,
  begun: () => (isStale = false),
  next: (text) => {
    look(text);
    run();
  },
};

async function read(signal) {
  const text = await tokensOf(asked, signal);
  const started = performance.now();
  const { size, some } = await arrival.receive(text, asked, hears, signal);
  begun();
  arrival.follow(signal);
  status(`${size} · ${((performance.now() - started) / 1000).toFixed(1)} s${some}`);
}

/** All is here: what a link wants is chosen, else a head that tells something. */
async function begun() {
  const { found, chosen } = shown;
  const [layer, head] = pattern.tellingHead(found.layers);
  const { num_layers: layers, num_heads: heads } = found.start;
  const isThere = wanted?.layer < layers && wanted.head < heads && !$("layer").options[wanted.layer].disabled;
  if (wanted?.token < found.ids.length) chosen.query = wanted.token;
  const edits = wanted?.edits ?? [];
  sink.tell(found.layers, found.start.tokens);
  arrival.drawHeads();
  choice.choose(...(isThere ? [wanted.layer, wanted.head] : [layer, head]));
  if (shown.chosen.query !== null) choice.drawContributions();
  const text = wanted ? wanted.beside : beside.text();
  wanted = null;
  if (text) await beside.put(text);
  else if (beside.text() !== null) beside.clear();
  if (shown.found !== found) return;
  causes.moved();
  const possible = edits.filter(({ from }) => from !== "beside" || beside.text());
  if (possible.length) causes.make(possible);
  writeAddress();
}

/** The pattern of a layer is asked for, and shown if it is still the one that is wanted. */
async function loadChosen(layer) {
  const of = shown.found;
  try {
    await arrival.readPatterns([layer], controller.signal, hears);
    grid.label();
    status(`The patterns of layer ${layer} are here too.`);
    if (shown.found === of && shown.chosen.layer === layer) choice.choose(layer, shown.chosen.head);
  } catch (error) {
    if (error.name !== "AbortError") status(error.message, true);
  }
}

function status(says, isError = false) {
  $("look-status").textContent = says;
  $("look-status").classList.toggle("error", isError);
}
