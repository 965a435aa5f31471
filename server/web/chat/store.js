// Chats, kept in this browser and nowhere else, each under a key of its own. None is dropped to make
// room: where the browser is full, the page says so. A chat is one object in this tab, however often it is
// asked for.
import { keysOf, read, readRaw, remove, write, writeRaw } from "../storage.js";
import { absorb, fromList } from "./tree.js";

const PREFIX = "thirdeye.chat.";
const OLD = "thirdeye.chats"; // version 1: all in one list

const known = new Map(); // key -> {raw, chat}: the object, and the text that it was last equal to

/** All chats, latest first. */
export function chats() {
  takeOver();
  return keysOf(PREFIX).map(load).filter(Boolean).sort((a, b) => b.updated - a.updated);
}

export function find(id) {
  return load(PREFIX + id);
}

function load(key) {
  const raw = readRaw(key);
  const entry = known.get(key);
  if (raw === null) return null;
  if (entry?.raw === raw) return entry.chat;
  const theirs = read(key, null);
  if (!theirs?.messages) return null;
  if (entry) absorb(entry.chat, theirs);
  known.set(key, { raw, chat: entry?.chat ?? theirs });
  return known.get(key).chat;
}

/** Keeps a chat as it is now, with what another tab has added to it meanwhile. `isNews`: it goes to
 * the top of the list. -> whether there was room for it. */
export function save(chat, isNews = true) {
  const key = PREFIX + chat.id;
  const { title, named, settings } = chat;
  load(key);
  Object.assign(chat, { title, named, settings });
  if (isNews) chat.updated = Date.now();
  if (!chat.named) chat.title = titleOf(chat);
  const raw = JSON.stringify(chat);
  if (!writeRaw(key, raw)) return false;
  known.set(key, { raw, chat });
  return true;
}

function titleOf(chat) {
  const first = Object.values(chat.messages).find(({ role }) => role === "user");
  return (first?.content || first?.files?.[0]?.name || "").trim().split("\n")[0].slice(0, 60);
}

/** Whether a chat that was kept is deleted, here or in another tab. */
export const isGone = (id) => known.has(PREFIX + id) && readRaw(PREFIX + id) === null;

export function forget(id) {
  remove(PREFIX + id);
  known.delete(PREFIX + id);
}

/** The chat that a "storage" event of another tab is about, or null. */
export function idOf(key) {
  return key?.startsWith(PREFIX) ? key.slice(PREFIX.length) : null;
}

/** Chats of version 1 are kept anew, one by one; what finds no room stays where it is. */
function takeOver() {
  const old = read(OLD, null);
  if (!Array.isArray(old)) return;
  remove(OLD);
  for (const [i, { id, title, updated, messages }] of old.entries()) {
    if (write(PREFIX + id, fromList(messages ?? [], { id, title, updated }))) continue;
    write(OLD, old.slice(i));
    return;
  }
}
