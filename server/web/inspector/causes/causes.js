// What parts of the model do, by changing them: a list of edits, each made by a click, and what they do together.
import { $, el, short } from "../../dom.js";
import { post, server } from "../../api.js";
import { comparison } from "./comparison.js";
import { continuation } from "./continuation.js";
import { asked, isSame, MAX_EDITS, part, told } from "./edits.js";
import * as neurons from "./neurons.js";
import * as patch from "./patch.js";
import * as sweep from "./sweep.js";

let look = null; // what is shown, see `mount`
let edits = [];
let result = null; // the server's answer to these edits
let controller = null;

/** `shown` tells of what is looked at: `chosen()` -> {layer, head, query}, `ids(from)` and `tokens(from)` of a text, `name(from, position)` of a
 * token, `choose(layer, head)` shows a head, `changed(edits)` is told of each change. */
export function mount(shown) {
  look = shown;
  $("leave-out").addEventListener("click", leaveOut);
  $("every-head").addEventListener("click", () => busy((signal) => sweep.run(look.ids("text"), $("cause-set").value, look.choose, signal)));
  $("cause-part").addEventListener("change", moved);
  patch.mount({ layer: () => look.chosen().layer, make: add });
}

/** What was found belongs to another text. */
export function clear(numTokens) {
  controller?.abort();
  [edits, result] = [[], null];
  $("cause-says").textContent = "";
  $("cause").replaceChildren();
  list();
  sweep.clear(numTokens);
  neurons.forget();
}

/** Another layer or token is chosen, or another text put beside. */
export function moved() {
  patch.offer(look.tokens("text"), look.tokens("beside"));
  $("patch-layer").textContent = `before layer ${look.chosen().layer}`;
  const isNeuron = $("cause-part").value === "neuron";
  $("cause-neuron").hidden = !isNeuron;
  if (isNeuron) neurons.offer(look.ids("text"), look.chosen());
}

/** The edits that are made, and the server's answer to them: {edits, result}. */
export const made = () => ({ edits, result });

/** What the server is asked for, but for the prompt: of `edits`, and of the text they take numbers from. */
export function request(list = edits) {
  const patch = list.find(({ from }) => from);
  const source = patch ? { source: look.ids(patch.from) } : {};
  return { interventions: list.map(asked), ...source };
}

/** Another text is beside, or none: what was taken from the one before is no longer. */
export function besideChanged() {
  moved();
  const left = edits.filter(({ from }) => from !== "beside");
  if (left.length < edits.length) make(left);
}

/** Makes these edits instead of those that were made. */
export function make(wanted) {
  return busy(async (signal) => {
    [edits, result] = [wanted, null];
    list();
    $("cause").replaceChildren();
    look.changed(edits);
    if (edits.length) result = await ask({ top_logprobs: 6 }, signal);
    show();
  });
}

async function ask(options, signal) {
  const body = { model: server.model, prompt: look.ids("text"), include: [], ...request(), ...options };
  return (await post("/v1/inspect", body, signal)).json();
}

/** The same edits once more, and the text goes on. */
async function goOn(count) {
  let found = null;
  await busy(async (signal) => {
    found = (await ask({ continue: count, noise: 2 }, signal)).continued;
    tell();
  });
  return found;
}

/** One more, on top of those before if the reader wants that. Numbers of two texts do not go together. */
export function add(edit) {
  const before = $("cause-more").checked ? edits.filter((one) => !isSame(one, edit) && (!one.from || !edit.from || one.from === edit.from)) : [];
  return make([...before, edit].slice(-MAX_EDITS));
}

function leaveOut() {
  const { layer, head } = look.chosen();
  const at = $("cause-part").value;
  const numbers = { head: { head }, neuron: { neuron: Number($("cause-neuron").value) } };
  return add({ at, layer, ...numbers[at], set: $("cause-set").value });
}

function show() {
  tell();
  if (!result) return;
  const kind = result.changed.kl > result.noise.kl_max ? "" : "nothing";
  $("cause").replaceChildren(comparison(result.base_next_token[0], result.next_token[0], ["next token", "as it is", "changed"], kind), continuation(goOn, kind));
}

function tell() {
  const how = edits.length === 1 ? told(edits[0], look.name) : `With these ${edits.length} changes`;
  $("cause-says").textContent = result ? `${how} ${verdict(result.changed.kl, result.noise)}` : "";
}

/** The edits, each with a button that takes it back. */
function list() {
  const item = (edit) => el("li", {}, el("button", {
    type: "button", class: "cause-edit", title: "Take it back", "aria-label": `Take back: ${told(edit, look.name)}`,
    onclick: () => make(edits.filter((one) => one !== edit)).then(() => ($("cause-edits").querySelector("button") ?? $("leave-out")).focus()),
  }, `${edit.set === "source" ? "" : edit.set === "zero" ? "off: " : "at its mean: "}${part(edit, look.name)} ×`));
  $("cause-edits").hidden = !edits.length;
  $("cause-edits").replaceChildren(...edits.map(item));
}

/** What a divergence is worth beside the model's own roundings. */
function verdict(kl, noise) {
  const size = `the next token moves by ${short(kl)} nats (KL)`;
  return kl > noise.kl_max
    ? `${size}; rounding alone moves it by ${short(noise.kl_max)} at most.`
    : `${size}: no more than rounding alone does (${short(noise.kl_max)}), so this says nothing.`;
}

/** One thing at a time: what is asked last is computed. */
async function busy(work) {
  controller?.abort();
  const { signal } = (controller = new AbortController());
  $("cause-says").textContent = "Computing…";
  try {
    await work(signal);
  } catch (error) {
    if (!signal.aborted) $("cause-says").textContent = error.message;
  }
}
