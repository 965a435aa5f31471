// The chat on screen: one path through its tree of messages, and what can be done with each of them.
import { server } from "../api.js";
import { $, el } from "../dom.js";
import { heed, isBusy, isReadHere, readAnswer, stop } from "./answers.js";
import * as composer from "./composer.js";
import * as drawer from "./drawer.js";
import { drawInto, messageNode } from "./message.js";
import { askedOf, conversation } from "./request.js";
import * as settings from "./settings.js";
import { chats, find, idOf, save } from "./store.js";
import { add, leafOf, newChat, pathOf, siblingsOf, turn } from "./tree.js";

const IDEAS = ["What is gravity?", "What is photosynthesis?", "What is the capital of Japan?"];
const OPEN = "chat"; // of this tab's storage: which one is open

let chat = newChat();
let lookInside = () => {};
let frame = 0; // of the drawing that is due
let pause = 0; // ms between two of them: long answers take longer to draw

export function mount(look) {
  lookInside = look;
  settings.mount();
  composer.mount({ send: (text, files) => ask(lastId(), { content: text, files }), editLast, tell });
  drawer.mount({ open, openNew: () => open(fresh()), stop, current: () => chat, tell });
  $("stop").addEventListener("click", () => stop(chat));
  $("log").addEventListener("grown", () => scroll());
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop(chat));
  addEventListener("storage", ({ key, newValue }) => followOthers(idOf(key), newValue));
  addEventListener("storage-failed", () => tell("This browser keeps no more chats: it is full, or set to keep nothing. Export them, and delete some."));
  const last = sessionStorage.getItem(OPEN);
  open((last === "new" ? null : find(last) ?? chats()[0]) ?? fresh(), false);
}

/** The server answers by now: what was cut off by leaving the page is read on. */
export function connected() {
  settings.showDefaults();
  goOnReading();
}

const fresh = () => newChat(settings.settingsOfNew());
const lastId = () => leafOf(chat)?.id ?? "";

function open(next, focus = true) {
  chat = next;
  sessionStorage.setItem(OPEN, leafOf(chat) ? chat.id : "new");
  settings.show(chat);
  composer.show(chat);
  drawAll();
  drawer.toggle(false);
  if (focus) $("prompt").focus();
  if (server.model) goOnReading();
}

/** Another tab has changed a chat, or deleted it. */
function followOthers(id, text) {
  if (!id) return;
  heed(id, text);
  const isShown = id === chat.id && find(id) && !isReadHere(id);
  if (isShown && !$("log").querySelector(".editor")) drawAll();
  else drawer.draw();
}

// --- what is on screen ---

const nodeOf = (message, isLast) => messageNode(message, { siblings: siblingsOf(chat, message), isLast, acts });

function drawAll() {
  const path = pathOf(chat);
  const shown = path.map((message, i) => nodeOf(message, i === path.length - 1));
  $("log").replaceChildren(...(shown.length ? shown : [greeting()]));
  scroll(true);
  setBusy();
  drawer.draw();
}

function greeting() {
  const buttons = IDEAS.map((idea) => el("button", { type: "button", class: "chip", onclick: () => ask("", { content: idea }) }, idea));
  return el("div", { class: "greeting" },
    el("h2", {}, "Ask something."),
    el("p", {}, "The model runs on this server. Chats stay in this browser."),
    el("div", { class: "chips" }, ...buttons));
}

/** Keeps the end in view, unless the reader has scrolled away from it. */
function scroll(always = false) {
  const log = $("log");
  const isNearEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 120;
  if (always || isNearEnd) log.scrollTop = log.scrollHeight;
}

/** Draws the growing answer, once a frame at the most, and so that drawing never takes all the time. */
function changed(of, message) {
  if (of.id !== chat.id || frame) return;
  if (message.state !== "streaming") drawEnd(message);
  else frame = setTimeout(() => requestAnimationFrame(() => drawGrowth(message)), pause);
}

function drawGrowth(message) {
  frame = 0;
  if (message.state !== "streaming") return drawEnd(message);
  if (message !== leafOf(chat)) return undefined; // another version is on screen
  const node = $("log").lastElementChild;
  const started = performance.now();
  drawInto(node, message);
  scroll();
  pause = 3 * (performance.now() - started);
  return undefined;
}

/** The rest stays as it is: where the reader is, what is unfolded or selected. */
function drawEnd(message) {
  setBusy();
  drawer.draw();
  const old = $("log").lastElementChild;
  if (message === leafOf(chat) && old.matches(".assistant")) {
    const node = nodeOf(message, true);
    const thought = old.querySelector(".thought");
    node.querySelector(".thought").open = thought.open && !thought.isThinking;
    old.replaceWith(node);
    scroll();
  }
  // On a phone the keyboard would cover the answer.
  if (!$("chat").hidden && matchMedia("(hover: hover)").matches && !document.activeElement?.matches("input, textarea")) $("prompt").focus();
}

function setBusy() {
  $("send").hidden = isBusy(chat);
  $("stop").hidden = !isBusy(chat);
}

/** A sentence above the box, with something to do about it, until it is clicked away. */
function tell(sentence, label, act) {
  const gone = () => $("notice").replaceChildren();
  const button = (name, then) => el("button", { type: "button", class: "quiet", onclick: () => (gone(), then?.()) }, name);
  $("notice").replaceChildren(el("span", {}, sentence), ...(label ? [button(label, act)] : []), button("Dismiss"));
}

// --- what can be done ---

const acts = {
  retry: (message) => answer(message.parent),
  edit,
  goOn: (message) => {
    if (isBusy(chat)) return;
    message.asked ??= askedOf(chat.settings);
    if (message.state === "done") raiseLimit(message);
    begin(message);
  },
  turn: (message, step) => {
    turn(chat, message, step);
    save(chat, false);
    drawAll();
    goOnReading();
  },
  look: (message) => lookInside(conversation(chat, message, (chat.settings.system ?? "").trim())),
  answerCalls: (message, results) => {
    if (isBusy(chat)) return;
    let parent = message.id;
    message.calls.forEach(({ id, name }, i) => {
      parent = add(chat, parent, { role: "tool", content: results[i], name, callId: id }).id;
    });
    answer(parent);
  },
};

/** An answer that reached its limit gets as much again: what the settings say by now, or what it had. */
function raiseLimit({ asked: { fields }, ids }) {
  const count = ids?.length ?? 0;
  fields.max_tokens = count + (Number(chat.settings.max_tokens) || fields.max_tokens || count);
}

/** A message below `parent`, and its answer. -> whether it was taken. */
function ask(parent, { content, files = [] }) {
  if (isBusy(chat) || !server.model) return false;
  const asked = terms();
  if (!asked) return false;
  const message = add(chat, parent, { role: "user", content, ...(files.length && { files }) });
  answer(message.id, asked);
  return true;
}

/** What an answer is asked with; null, having said why, if the settings are wrong. */
function terms() {
  try {
    return askedOf(chat.settings);
  } catch (error) {
    tell(`Tools in the settings are no JSON: ${error.message}`);
    return null;
  }
}

/** One more answer to a message. */
function answer(parent, asked = isBusy(chat) ? null : terms()) {
  if (!asked) return;
  begin(add(chat, parent, { role: "assistant", content: "", state: "streaming", asked }));
}

/** Kept first, then asked for: a reload at any moment finds it. */
function begin(message) {
  message.state = "streaming";
  message.at = Date.now();
  save(chat);
  sessionStorage.setItem(OPEN, chat.id);
  readAnswer(chat, message, changed);
  drawAll();
}

/** The answer on screen is not at its end, and nobody reads it here: a reload, or another tab's. */
function goOnReading() {
  const message = leafOf(chat);
  if (message?.state !== "streaming" || isBusy(chat)) return;
  readAnswer(chat, message, changed);
  setBusy();
}

function editLast() {
  const message = pathOf(chat).findLast(({ role }) => role === "user");
  const node = [...$("log").querySelectorAll(".user")].at(-1);
  if (message && node && !isBusy(chat)) edit(message, node);
}

/** The message becomes a box; what is sent from it stands beside the old one. */
function edit(message, node) {
  if (isBusy(chat)) return;
  const box = el("textarea", { "aria-label": "Edited message", dir: "auto", rows: Math.min(12, message.content.split("\n").length + 1) });
  box.value = message.content;
  const send = (event) => {
    event.preventDefault();
    if (box.value.trim()) ask(message.parent, { content: box.value.trim(), files: message.files });
  };
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") drawAll();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  });
  const cancel = el("button", { type: "button", onclick: drawAll }, "Cancel");
  const form = el("form", { class: "editor", onsubmit: send }, box, el("div", { class: "bar-row" }, el("button", { type: "submit", class: "primary" }, "Send"), cancel));
  node.querySelector(".body").replaceChildren(form);
  node.querySelector(".actions").hidden = true;
  box.focus();
}
