// The tour: sixteen steps through the model that is served, each with its text, its picture and its map.
import { el, visible } from "../dom.js";
import { server } from "../api.js";
import { formula } from "../markdown/math.js";
import { choices, mlpLayerOf, startingHead } from "./chosen.js";
import * as looking from "./look.js";
import { map } from "./map.js";
import { strip, UNKNOWN } from "./model.js";
import { frame } from "./frame.js";
import { STEPS } from "./steps.js";

const SENTENCE = "Greasy fried noodles will be my lunch";
const PAUSE = 120; // ms on a step before its look is asked for: who walks through asks for nothing

let parts = null; // nodes of the frame
let at = 0; // the step
let text = SENTENCE;
let continued = null; // {text, ids}: with a token that was drawn, which is not to be cut otherwise
let of = null; // {served, text} that `model` and `tokens` are of
let model = UNKNOWN;
let tokens = null; // {ids, list, numCut}
let chosen = {};
let controller = null;

export async function mount() {
  parts = await frame(document.getElementById("tour"), STEPS);
  parts.text.value = text;
  parts.form.addEventListener("submit", (event) => {
    event.preventDefault();
    text = parts.text.value || SENTENCE;
    parts.text.value = text;
    run();
  });
  parts.text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    parts.form.requestSubmit();
  });
  parts.own.addEventListener("click", () => {
    text = parts.text.value = SENTENCE;
    run();
  });
  document.addEventListener("keydown", onKey);
  addEventListener("theme", () => of && !document.getElementById("tour").hidden && run());
  if (!document.getElementById("tour").hidden) show();
}

/** A step by the page's address: `#tour/6`. */
export function show() {
  if (!parts) return;
  const asked = Number(location.hash.split("/")[1] ?? 1);
  at = STEPS[asked - 1] ? asked - 1 : 0;
  parts.go(at);
  write();
  if (server.model) run();
}

export function hide() {
  controller?.abort();
}

function onKey(event) {
  if (document.getElementById("tour").hidden || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("input, textarea, select, dialog, [role='img']")) return;
  const next = { ArrowLeft: at, ArrowRight: at + 2 }[event.key];
  if (!next || !STEPS[next - 1]) return;
  event.preventDefault();
  location.hash = `tour/${next}`;
}

/** What a step says, before its picture is there. */
function write() {
  const step = STEPS[at];
  const { says, is } = step.fold(model);
  parts.title.textContent = `${at + 1}. ${step.title}`;
  parts.strip.textContent = strip(model);
  parts.words.replaceChildren(...step.text(model).map((one) => el("p", {}, one)));
  parts.quote.textContent = says;
  parts.is.replaceChildren(...is.map((one) => el("p", {}, one)));
  parts.formula.replaceChildren(...step.formula(model).flatMap(({ tex, says: words }) => [
    formula({ text: tex, raw: tex, isDisplay: true }), el("p", {}, words),
  ]));
  parts.map.replaceChildren(map(model, step.at));
  parts.controls.replaceChildren();
  clear("Looking…");
}

function clear(status) {
  parts.stage.replaceChildren();
  parts.caption.textContent = "";
  parts.says.textContent = "";
  parts.alt.textContent = "";
  parts.status.textContent = status;
  parts.status.classList.remove("error");
  parts.figure.setAttribute("aria-busy", "true");
}

async function run() {
  controller?.abort();
  parts.own.hidden = text === SENTENCE;
  const { signal } = (controller = new AbortController());
  const step = STEPS[at];
  parts.figure.setAttribute("aria-busy", "true");
  try {
    await new Promise((done) => setTimeout(done, PAUSE));
    signal.throwIfAborted();
    await prepare(step, signal);
    const tour = context(signal, step);
    offer(step, tour);
    const found = await step.ask(tour);
    signal.throwIfAborted();
    draw(step, found, tour);
  } catch (error) {
    if (!signal.aborted) refuse(error);
  }
}

/** The selects of the step; the one that was changed keeps the focus. */
function offer(step, tour) {
  const before = [...parts.controls.querySelectorAll("select")].indexOf(document.activeElement);
  parts.controls.replaceChildren(...choices(step.controls ?? [], tour, model));
  parts.controls.querySelectorAll("select")[before]?.focus();
}

function draw(step, found, tour) {
  const { node, caption, alt } = step.draw(found, tour);
  const before = document.activeElement;
  const place = stops().indexOf(before);
  parts.stage.replaceChildren(node);
  const same = before?.matches(".tour-head") ? parts.stage.querySelector(".tour-head[aria-pressed='true']") : stops()[place];
  same?.focus({ preventScroll: true }); // what was pressed in the picture keeps the focus
  parts.caption.textContent = caption;
  parts.says.textContent = "";
  parts.alt.textContent = alt;
  parts.status.textContent = tokens?.numCut ? `The first ${tokens.ids.length} tokens of your text; ${tokens.numCut} more would be too small to see.` : "";
  parts.figure.removeAttribute("aria-busy");
  parts.figure.dataset.step = String(at + 1);
}

/** All in the picture that takes the focus. */
const stops = () => [...parts.stage.querySelectorAll("button, input, select, [tabindex='0']")];

function refuse(error) {
  const refusals = {
    400: `This cannot be shown of this model: ${error.message.replace(/^'.*?(cannot be told|is not for this model): /, "")}`,
    403: `${error.message} The text beside it is true all the same.`,
  };
  clear(refusals[error.status] ?? error.message);
  parts.status.classList.add("error");
  parts.figure.removeAttribute("aria-busy");
  parts.figure.dataset.step = String(at + 1);
}

/** The text's tokens, the model's facts and a head to begin with, as far as the step needs them. */
async function prepare(step, signal) {
  if (of?.served !== server.model || of.text !== text) {
    looking.forget();
    [tokens, chosen, model] = [null, {}, of?.served === server.model ? model : UNKNOWN];
    of = { served: server.model, text };
  }
  if (!tokens) {
    const { ids, names } = continued?.text === text ? continued : await looking.tokenize(text, signal);
    const kept = ids.slice(0, looking.MAX_TOKENS);
    tokens = { ids: kept, list: kept.map((id, i) => ({ id, token: names[i] })), numCut: ids.length - kept.length };
  }
  if (!tokens.next) await learn(step, signal);
  if (model.isKnown && step.controls?.some((name) => /layer/i.test(name)) && chosen.layer === undefined) {
    Object.assign(chosen, await startingHead(model, chosen, tokens.ids, signal));
  }
}

/** What the model is, and what it says next; a step that needs neither goes on without. */
async function learn(step, signal) {
  try {
    const found = await looking.inspect(tokens.ids, { top_logprobs: 20 }, signal);
    const wasKnown = model.isKnown;
    model = { ...found, isKnown: true };
    tokens = { ...tokens, list: found.tokens, next: found.next_token.at(-1) };
    chosen.query ??= Math.min(4, tokens.ids.length - 1);
    chosen.key ??= Math.max(0, chosen.query - 1);
    if (!wasKnown) write();
  } catch (error) {
    if (signal.aborted || !step.isForAll) throw error;
  }
}

/** What a step works with. */
function context(signal, { controls = [] }) {
  const ofMlp = controls.includes("mlpLayer") && { mlpLayer: mlpLayerOf(model, chosen) };
  return {
    model, signal, chosen: ofMlp ? { ...chosen, ...ofMlp, layer: ofMlp.mlpLayer } : chosen, text, ids: tokens.ids, tokens: tokens.list, next: tokens.next,
    numTokens: tokens.ids.length + tokens.numCut,
    name: (position) => `“${visible(tokens.list[position].token)}”`,
    look: (options, prompt = tokens.ids) => looking.inspect(prompt, options, signal),
    tell: (says) => (parts.says.textContent = says),
    choose: (changes) => {
      Object.assign(chosen, "layer" in changes && { mlpLayer: undefined }, changes); // steps about MLPs follow the head's
      run();
    },
    add: (token) => {
      text = parts.text.value = text + token.token;
      continued = { text, ids: [...tokens.ids, token.id], names: [...tokens.list, token].map((one) => one.token) };
      run();
    },
  };
}
