// Answers as they stream in, one at a time in each chat, on screen or not. An answer is kept before it is
// asked for and once a second while it comes, with its token ids and seed: a page that is loaded again
// asks for the rest, and the server goes on with the very tokens it would have drawn.
import { cardOf, post, server, stream } from "../api.js";
import { bodyOf } from "./request.js";
import { find, isGone, save } from "./store.js";

const SAVE_EVERY = 1000; // ms
const HEARD_WITHIN = 1000; // ms; what one tab keeps, another sees a little later

const running = new Map(); // chat id -> {chat, message, controller, isReading, timer}
let isLeaving = false;

addEventListener("pagehide", () => {
  isLeaving = true;
  for (const { chat, isReading } of running.values()) if (isReading) save(chat, false);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // its streams are gone
});

export const isBusy = (chat) => running.has(chat.id);
export const isReadHere = (id) => Boolean(running.get(id)?.isReading);

/** Ends the answer of this chat that streams, if one does; what came is kept. */
export function stop(chat) {
  running.get(chat.id)?.controller.abort();
}

/** Another tab has written a chat (its text), or deleted it (null): what is stopped there, or gone, ends
 * here; who waits for an answer waits until it has ended. */
export function heed(id, text) {
  const own = running.get(id);
  if (!own) return;
  const state = text === null ? "stopped" : JSON.parse(text).messages?.[own.message.id]?.state;
  if (state === "stopped" || (!own.isReading && state && state !== "streaming")) stop(own.chat);
}

/** Reads `message` of `chat` to its end. `changed(chat, message)` is told of all that comes, and last
 * of the end. Where another tab reads it, this one waits, and goes on if that tab is closed. */
export async function readAnswer(chat, message, changed) {
  const name = `thirdeye.answer.${message.id}`;
  const own = { chat, message, controller: new AbortController(), isReading: false, timer: null };
  running.set(chat.id, own);
  const end = () => {
    if (running.get(chat.id) !== own) return;
    running.delete(chat.id);
    changed(chat, message);
  };
  const read = async () => {
    catchUp(chat, message);
    if (isGone(chat.id)) message.state = "stopped";
    if (message.state !== "streaming") return; // the other tab came to its end
    own.isReading = true;
    await receiveAll(chat, message, changed, own.controller.signal);
    end();
    if (!isLeaving) await othersHaveHeard(name);
  };
  try {
    await alone(name, own.controller.signal, read);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    endWaiting(chat, message);
  } finally {
    end();
  }
}

/** With what another tab kept of it last. */
function catchUp(chat, message) {
  const latest = find(chat.id)?.messages[message.id];
  if (latest?.at > message.at) Object.assign(message, latest);
}

/** Who waited for the tab that reads has stopped: so that one stops, too. */
function endWaiting(chat, message) {
  catchUp(chat, message);
  if (message.state !== "streaming") return;
  message.state = "stopped";
  message.at = Date.now();
  if (find(chat.id)) save(chat, false);
}

/** Runs `act` in one tab at a time. Over plain HTTP there are no locks: two tabs then read the same. */
async function alone(name, signal, act) {
  await (navigator.locks ? navigator.locks.request(name, { signal }, act) : act());
}

/** The lock may reach a tab that waits before it sees how the answer ended: it would ask for it again. So
 * it is held until all who wait know, and have gone (`heed`). */
async function othersHaveHeard(name) {
  const until = performance.now() + HEARD_WITHIN;
  while (navigator.locks && performance.now() < until) {
    const { pending } = await navigator.locks.query();
    if (!pending.some((lock) => lock.name === name)) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function receiveAll(chat, message, changed, signal) {
  try {
    await receive(chat, message, changed, signal);
  } catch (error) {
    if (isLeaving) return;
    message.state = error.name === "AbortError" ? "stopped" : "broken";
    message.error = error.name === "AbortError" ? "" : error.message;
  } finally {
    running.get(chat.id).isReading = false;
    message.at = Date.now();
    if (!isLeaving && find(chat.id)) save(chat); // not one that was deleted meanwhile
  }
}

async function receive(chat, message, changed, signal) {
  const card = cardOf(message.model); // what one model began, it ends
  const byTokens = message.ids?.length > 0 && message.model === card.id;
  const reader = new Reader(message, byTokens, card.max_model_len);
  message.model = card.id;
  message.error = "";
  const own = new AbortController();
  const both = AbortSignal.any([signal, own.signal]);
  const response = await post("/v1/chat/completions", bodyOf(chat, message, byTokens), both);
  for await (const chunk of stream(response)) {
    if (!reader.take(chunk)) {
      own.abort(); // of another build: its tokens are others
      delete message.ids;
      return receive(chat, message, changed, signal);
    }
    message.at = Date.now();
    saveSoon(chat);
    changed(chat, message);
  }
  message.state = "done";
  if (message.finish !== "length") delete message.ids; // nothing more will come
  if (server.state !== "ready") dispatchEvent(new Event("model-loaded"));
  return undefined;
}

function saveSoon(chat) {
  const own = running.get(chat.id);
  own.timer ??= setTimeout(() => {
    own.timer = null;
    if (isGone(chat.id)) own.controller.abort(); // another tab deleted it: it is not brought back
    else if (own.isReading) save(chat, false);
  }, SAVE_EVERY);
}

/** Puts chunks into a message. A stream that goes on by tokens tells the whole answer again, one that
 * goes on by text only what is new. */
class Reader {
  constructor(message, byTokens, context) {
    this.message = message;
    this.context = context;
    this.again = byTokens ? message.ids.at(-1) : null; // the token that must come first
    this.fingerprint = byTokens ? message.fingerprint : null;
    this.isNew = !byTokens && message.content === "";
    if (!byTokens) message.ids = this.isNew ? [] : undefined; // what goes on by text has other tokens
    this.before = byTokens || this.isNew ? "" : message.content;
    if (this.isNew) message.thought = "";
    this.text = "";
    this.thought = "";
    this.calls = [];
    this.started = performance.now();
    this.first = null; // when the first token came, and how many were known by then
  }

  /** -> false if the chunk cannot be of the same answer. */
  take(chunk) {
    const { message } = this;
    const [choice] = chunk.choices;
    if (this.fingerprint && chunk.system_fingerprint !== this.fingerprint) return false;
    let ids = choice?.token_ids ?? [];
    if (ids.length && this.again !== null) {
      if (ids[0] !== this.again) return false;
      ids = ids.slice(1);
      this.again = null;
    }
    message.fingerprint = chunk.system_fingerprint;
    message.ids?.push(...ids);
    this.read(choice?.delta ?? {});
    const hasEnded = Boolean(choice?.finish_reason);
    if (hasEnded) message.finish = choice.finish_reason;
    const text = this.before + this.text;
    if (hasEnded || text.length >= message.content.length) message.content = text;
    if (!this.before && (hasEnded || this.thought.length >= (message.thought ?? "").length)) message.thought = this.thought;
    message.calls = this.calls;
    this.count(chunk);
    return true;
  }

  read({ content, reasoning_content: thought, tool_calls: news = [] }) {
    this.text += content ?? "";
    this.thought += thought ?? "";
    for (const { index, id, function: called } of news) {
      const call = (this.calls[index] ??= { id: "", name: "", text: "" });
      if (id) call.id = id;
      call.name += called?.name ?? "";
      call.text += called?.arguments ?? "";
    }
  }

  count({ usage, timings }) {
    const { message } = this;
    if (timings) message.stats = summary(timings);
    if (!usage) return;
    const { completion_tokens: count, prompt_tokens: prompt } = usage;
    message.context = this.context;
    message.isFull = prompt + count >= this.context;
    if (!count || timings) return;
    this.first ??= { at: performance.now(), count };
    const seconds = (performance.now() - this.first.at) / 1000;
    const rate = count > this.first.count && seconds > 0 ? ` · ${((count - this.first.count) / seconds).toFixed(1)} tokens/s` : "";
    message.stats = `${count} tokens${rate}`;
  }
}

function summary(t) {
  const cached = t.cache_n ? ` · ${t.cache_n} of the prompt's tokens cached` : "";
  const queued = t.queue_ms >= 1 ? ` · queued ${Math.round(t.queue_ms)} ms` : "";
  return `${t.predicted_n} tokens · ${t.predicted_per_second.toFixed(1)} tokens/s · first after ${Math.round(t.ttft_ms)} ms`
    + `${queued} · ${(t.total_ms / 1000).toFixed(1)} s in all${cached}`;
}
