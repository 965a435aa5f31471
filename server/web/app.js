// The chat page: one conversation, kept in memory, streamed from /v1/chat/completions.
// Everything a model or a server says goes into text nodes, so none of it can become markup.
import { readEvents } from "./sse.js";

const $ = (id) => document.getElementById(id);
const log = $("log");
const messages = []; // what is sent: {role, content}
let model = null;
let controller = null; // of the answer that is being streamed

/** fetch with the key of this tab; an error answer becomes an Error with the server's message. */
async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  error.status = response.status;
  throw error;
}

/** Finds out what is served; while the model loads, says so and asks again. */
async function connect() {
  try {
    const { data } = await (await call("/v1/models")).json();
    model = data[0].id;
    $("model").textContent = `${model} · ${data[0].max_model_len} tokens of context`;
  } catch (error) {
    $("model").textContent = error.message;
    if (error.status === 401) askForKey();
    else setTimeout(connect, 1000);
  }
}

function askForKey() {
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function show(kind, text) {
  const element = document.createElement("div");
  element.className = kind;
  element.textContent = text;
  log.append(element);
  element.scrollIntoView({ block: "end" });
  return element;
}

async function send(text) {
  messages.push({ role: "user", content: text });
  show("message user", text);
  const answer = show("message assistant waiting", "");
  controller = new AbortController();
  setBusy(true);
  let content = "";
  try {
    const last = await stream((piece) => {
      content += piece;
      answer.textContent = content;
      answer.scrollIntoView({ block: "end" });
    });
    show("note", summary(last));
  } catch (error) {
    if (error.name === "AbortError") show("note", "stopped");
    else show("note error", error.message);
    if (error.status === 401) askForKey();
  } finally {
    answer.classList.remove("waiting");
    if (content) messages.push({ role: "assistant", content });
    else messages.pop();
    setBusy(false);
  }
}

/** Streams the answer's text into `onText`; returns the last chunk, which has usage and timings. */
async function stream(onText) {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      model,
      messages,
      stream: true,
      temperature: 0.3, // calmer than the API's default of 1: small models wander
      stream_options: { include_usage: true },
    }),
    signal: controller.signal,
  });
  let last = null;
  for await (const chunk of readEvents(response)) {
    if (chunk.error) throw new Error(chunk.error.message);
    const text = chunk.choices[0]?.delta.content;
    if (text) onText(text);
    last = chunk;
  }
  return last;
}

function summary(chunk) {
  const { completion_tokens: count } = chunk?.usage ?? {};
  const timings = chunk?.timings;
  if (!timings) return `${count} tokens`;
  const rate = timings.predicted_per_second.toFixed(1);
  return `${count} tokens · first after ${Math.round(timings.ttft_ms)} ms · ${rate} tokens/s`;
}

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  if (!busy) $("prompt").focus();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value.trim();
  if (!text || !model || !$("stop").hidden) return;
  $("prompt").value = "";
  send(text);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
});
$("stop").addEventListener("click", () => controller?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") controller?.abort();
});
$("clear").addEventListener("click", () => {
  controller?.abort();
  messages.length = 0;
  log.replaceChildren();
  $("prompt").focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  $("key-dialog").close();
  connect();
});
connect();
