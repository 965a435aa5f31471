// The chat: messages stream in, can be stopped, retried, edited, copied and looked into.
// The one on screen is a list of {role, content, note}; what is drawn follows from it.
import { $, el } from "./dom.js";
import { post, server, stream } from "./api.js";
import { chats, forget, newChat, read, save, write } from "./history.js";
import { render } from "./markdown.js";

const SETTINGS = "thirdeye.settings";
const FIELDS = ["temperature", "top_p", "top_k", "frequency_penalty", "max_tokens", "seed"];

let chat = newChat();
let controller = null; // of the answer that streams
let lookInside = () => {};

export function mount(look) {
  lookInside = look;
  readSettings();
  $("form").addEventListener("submit", onSubmit);
  $("prompt").addEventListener("keydown", onKey);
  $("prompt").addEventListener("input", grow);
  $("stop").addEventListener("click", stop);
  $("clear").addEventListener("click", () => open(newChat()));
  $("settings").addEventListener("input", keepSettings);
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
  $("history-button").addEventListener("click", () => toggleHistory());
  $("log").addEventListener("click", () => toggleHistory(false));
  open(chats()[0] ?? newChat(), false);
}

/** Ends the answer that streams, if one does. */
function stop() {
  controller?.abort();
}

function open(next, focus = true) {
  stop();
  chat = next;
  drawAll();
  toggleHistory(false);
  if (focus) $("prompt").focus();
}

// --- what is on screen ---

function drawAll() {
  const shown = chat.messages.map((message, index) => messageNode(message, index));
  $("log").replaceChildren(...(shown.length ? shown : [greeting()]));
  scroll(true);
  drawHistory();
}

function greeting() {
  const ideas = ["Why is the sky blue?", "What is photosynthesis?", "What is the capital of Japan?"];
  const buttons = ideas.map((idea) => el("button", { type: "button", class: "chip", onclick: () => send(idea) }, idea));
  return el("div", { class: "greeting" },
    el("h2", {}, "Ask something."),
    el("p", {}, "The model runs on this server. Chats stay in this browser."),
    el("div", { class: "chips" }, ...buttons));
}

function messageNode(message, index) {
  const isMine = message.role === "user";
  const body = el("div", { class: isMine ? "body plain" : "body" });
  if (isMine) body.textContent = message.content;
  else render(body, message.content);
  const note = el("p", { class: message.error ? "note error" : "note" }, message.note ?? "");
  return el("article", { class: `message ${message.role}`, "aria-label": isMine ? "You" : "Answer" },
    ...(isMine ? [] : [thoughtNode(message)]), body, note, actions(message, index));
}

/** What the model thought: open while there is nothing else to read, then folded. */
function thoughtNode(message) {
  const node = el("details", { class: "thought" }, el("summary", {}), el("div", { class: "plain" }));
  drawThought(node, message, false);
  return node;
}

function drawThought(node, message, isGrowing) {
  const isThinking = isGrowing && message.content === "";
  node.hidden = !message.thought;
  node.firstChild.textContent = isThinking ? "Thinking…" : "Thought";
  if (node.lastChild.textContent !== message.thought) node.lastChild.textContent = message.thought ?? "";
  if (isThinking !== node.isThinking) node.open = isThinking;
  node.isThinking = isThinking;
}

function actions(message, index) {
  const button = (label, act) => el("button", { type: "button", class: "quiet", onclick: act }, label);
  const own = message.role === "user"
    ? [button("Edit", () => edit(index))]
    : [button("Retry", () => retry(index))];
  const copy = button("Copy", async () => {
    await navigator.clipboard?.writeText(message.content).catch(() => {});
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1200);
  });
  return el("div", { class: "actions" }, copy, ...own,
    button("Look inside", () => lookInside(message.content)));
}

/** Keeps the end in view, unless the reader has scrolled away from it. */
function scroll(always = false) {
  const log = $("log");
  const isNearEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 120;
  if (always || isNearEnd) log.scrollTop = log.scrollHeight;
}

function toggleHistory(show = $("history").hidden) {
  if (matchMedia("(min-width: 60rem)").matches) show = true;
  $("history").hidden = !show;
  $("history-button").setAttribute("aria-expanded", String(show));
}

function drawHistory() {
  const rows = chats().map((other) => {
    const current = other.id === chat.id ? "true" : undefined;
    const pick = el("button", { type: "button", class: "pick", "aria-current": current, onclick: () => open(other) }, other.title || "…");
    const drop = el("button", { type: "button", class: "quiet", title: "Delete this chat", "aria-label": `Delete ${other.title}`, onclick: () => {
      forget(other.id);
      if (other.id === chat.id) open(newChat());
      else drawHistory();
    } }, "×");
    return el("li", {}, pick, drop);
  });
  $("chats").replaceChildren(...rows);
}

// --- what can be done ---

function onSubmit(event) {
  event.preventDefault();
  const text = $("prompt").value.trim();
  if (!text || !server.model || controller) return;
  $("prompt").value = "";
  grow();
  send(text);
}

function onKey(event) {
  if (event.key === "ArrowUp" && !$("prompt").value) {
    const last = chat.messages.findLastIndex((message) => message.role === "user");
    if (last >= 0 && !controller) edit(last);
  }
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
}

function grow() {
  const box = $("prompt");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 240)}px`;
}

function send(text) {
  if (controller) return;
  chat.messages.push({ role: "user", content: text });
  answer();
}

/** The same question again: this answer and all behind it go. */
function retry(index) {
  if (controller) return;
  chat.messages.length = index;
  answer();
}

/** The message goes back into the box; it and all behind it leave the chat. */
function edit(index) {
  if (controller) return;
  $("prompt").value = chat.messages[index].content;
  chat.messages.length = index;
  drawAll();
  grow();
  $("prompt").focus();
}

async function answer() {
  const own = chat; // another chat may be opened meanwhile
  const message = { role: "assistant", content: "", note: "" };
  own.messages.push(message);
  drawAll();
  const node = $("log").lastElementChild;
  node.classList.add("waiting");
  node.setAttribute("aria-busy", "true");
  const painter = new Painter(node, message);
  controller = new AbortController();
  setBusy(true);
  try {
    await receive(own, message, painter, controller.signal);
  } catch (error) {
    const isStopped = error.name === "AbortError";
    message.error = !isStopped;
    message.note = isStopped ? `stopped · ${message.note}` : error.message;
  } finally {
    controller = null;
    setBusy(false);
    if (message.content === "" && !message.thought && own.messages.at(-1) === message && message.error === undefined) own.messages.pop();
    save(own);
    painter.end();
    if (own === chat) drawAll();
  }
}

async function receive(own, message, painter, signal) {
  const started = performance.now();
  let first = null;
  const response = await post("/v1/chat/completions", requestBody(own.messages.slice(0, -1)), signal);
  for await (const chunk of stream(response)) {
    const delta = chunk.choices[0]?.delta;
    if (delta?.reasoning_content) message.thought = (message.thought ?? "") + delta.reasoning_content;
    message.content += delta?.content ?? "";
    const count = chunk.usage?.completion_tokens ?? 0;
    if (count && first === null) first = performance.now();
    const seconds = (performance.now() - (first ?? started)) / 1000;
    const rate = count > 1 && seconds > 0 ? ` · ${((count - 1) / seconds).toFixed(1)} tokens/s` : "";
    if (chunk.choices[0]?.finish_reason === "length") message.isCut = true;
    const cut = message.isCut ? "cut: no room for more · " : "";
    message.note = cut + (chunk.timings ? summary(chunk) : `${count} tokens${rate}`);
    painter.ask();
  }
  if (server.state !== "ready") dispatchEvent(new Event("model-loaded"));
}

function requestBody(messages) {
  const settings = read(SETTINGS, {});
  const system = (settings.system ?? "").trim();
  const sent = messages.filter((message) => message.content).map(({ role, content, thought }) =>
    (thought ? { role, content, reasoning_content: thought } : { role, content }));
  const body = {
    model: server.model,
    messages: system ? [{ role: "system", content: system }, ...sent] : sent,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...calm(),
  };
  for (const name of FIELDS) {
    if (settings[name] !== undefined && settings[name] !== "") body[name] = Number(settings[name]);
  }
  return body;
}

/** Without suggestions of its maker a model gets ours: small ones wander, and go round in circles. */
function calm() {
  return Object.keys(server.suggested).length ? {} : { temperature: 0.3, frequency_penalty: 0.3 };
}

/** Empty fields of the settings show what counts instead. */
export function showDefaults() {
  const api = { temperature: 1, top_p: 1, top_k: 0, frequency_penalty: 0, max_tokens: "all that fit" };
  for (const [name, value] of Object.entries({ ...api, ...server.suggested, ...calm() })) {
    const field = $(`set-${name}`);
    if (field) field.placeholder = value === 0 && name !== "temperature" ? "off" : value;
  }
}

function summary(chunk) {
  const t = chunk.timings;
  const cached = t.cache_n ? ` · ${t.cache_n} of the prompt's tokens cached` : "";
  const queued = t.queue_ms >= 1 ? ` · queued ${Math.round(t.queue_ms)} ms` : "";
  return `${t.predicted_n} tokens · ${t.predicted_per_second.toFixed(1)} tokens/s · first after ${Math.round(t.ttft_ms)} ms`
    + `${queued} · ${(t.total_ms / 1000).toFixed(1)} s in all${cached}`;
}

/** Draws a growing answer, once a frame at the most. */
class Painter {
  constructor(node, message) {
    this.node = node;
    this.message = message;
    this.frame = 0;
  }
  ask() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }
  draw(isGrowing = true) {
    this.frame = 0;
    drawThought(this.node.querySelector(".thought"), this.message, isGrowing);
    render(this.node.querySelector(".body"), this.message.content);
    this.node.querySelector(".note").textContent = this.message.note;
    scroll();
  }
  end() {
    cancelAnimationFrame(this.frame);
    this.draw(false);
    this.node.classList.remove("waiting");
    this.node.removeAttribute("aria-busy");
  }
}

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  // On a phone the keyboard would cover the answer.
  if (!busy && !$("chat").hidden && matchMedia("(hover: hover)").matches) $("prompt").focus();
}

// --- settings ---

function readSettings() {
  const settings = read(SETTINGS, {});
  for (const name of ["system", ...FIELDS]) $(`set-${name}`).value = settings[name] ?? "";
}

function keepSettings() {
  const entries = ["system", ...FIELDS].map((name) => [name, $(`set-${name}`).value]);
  write(SETTINGS, Object.fromEntries(entries));
}
