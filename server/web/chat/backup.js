// Chats as files: all of them or one as JSON, which can be read back here, or one as Markdown.
import { offer } from "../download.js";
import { chats, find, save } from "./store.js";
import { fromList, newId, pathOf } from "./tree.js";

const FORMAT = "thirdeye.chats";
const ROLES = ["user", "assistant", "tool"];

export function exportAll() {
  offer("thirdeye-chats.json", "application/json", JSON.stringify({ format: FORMAT, version: 2, chats: chats() }, null, 1));
}

/** The path that is on screen; all versions are in the JSON of `exportAll`. */
export function exportMarkdown(chat) {
  const names = { user: "You", assistant: "Answer", tool: "Result" };
  const parts = pathOf(chat).map(({ role, content, files = [], calls = [] }) => [
    `## ${names[role]}`,
    ...files.map(({ name, text }) => `${name}:\n\n~~~~\n${text}\n~~~~`),
    content,
    ...calls.map(({ name, text }) => `Calls \`${name}\`:\n\n~~~~json\n${text}\n~~~~`),
  ].filter(Boolean).join("\n\n"));
  const name = (chat.title || "chat").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  offer(`${name}.md`, "text/markdown", [`# ${chat.title}`, ...parts].join("\n\n") + "\n");
}

/** Reads a file of chats: what `exportAll` writes, or `{"messages": [{"role", "content"}]}` and lists of
 * these. -> how many came in. To a chat that is here already the messages are added that it lacks; none is
 * changed. Throws, saying why, for what is no such file. */
export async function importFile(file) {
  let read;
  try {
    read = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is no JSON.`);
  }
  const found = Array.isArray(read?.chats) ? read.chats : Array.isArray(read) ? read : [read];
  const taken = found.map(asChat).filter(Boolean);
  if (!taken.length) throw new Error(`${file.name} holds no chat.`);
  let count = 0;
  for (const chat of taken) {
    const own = find(chat.id);
    if (own && !takeNew(own, chat)) continue;
    if (!save(own ?? chat, false)) throw new Error(`${count} of ${taken.length} chats came in: this browser has no room for more.`);
    count++;
  }
  return count;
}

/** -> whether there was anything new. */
function takeNew(own, chat) {
  const news = Object.values(chat.messages).filter(({ id }) => !own.messages[id]);
  for (const message of news) own.messages[message.id] = message;
  own.chosen = Object.fromEntries(linksOf(own.messages, { ...chat.chosen, ...own.chosen }));
  return news.length > 0;
}

function asChat(chat) {
  if (Array.isArray(chat?.messages)) {
    const title = text(chat.title);
    const made = fromList(chat.messages.filter(Boolean), { title, named: title !== "", updated: Date.now() });
    return pathOf(made).length ? made : null;
  }
  return chat?.messages && typeof chat.messages === "object" ? cleaned(chat) : null;
}

const text = (value) => (typeof value === "string" ? value : "");
const list = (value, make) => (Array.isArray(value) ? value.filter(Boolean).map(make) : undefined);

/** Only what belongs there, each of its type: a file may hold anything. Null if no message is left. */
function cleaned({ id, title, named, updated, settings, messages, chosen }) {
  const kept = {};
  for (const message of Object.values(messages)) {
    const isFine = message && text(message.id) && typeof message.parent === "string" && ROLES.includes(message.role);
    if (isFine) kept[message.id] = cleanedMessage(message);
  }
  for (const message of Object.values(kept)) if (message.parent && !kept[message.parent]) message.parent = "";
  const shown = Object.fromEntries(linksOf(kept, chosen));
  for (const message of Object.values(kept)) shown[message.parent] ??= message.id;
  const texts = Object.entries(settings ?? {}).filter(([, value]) => typeof value === "string");
  if (!Object.keys(kept).length || !shown[""]) return null;
  return {
    version: 2, id: text(id) || newId(), title: text(title), named: Boolean(named), updated: Number(updated) || Date.now(),
    settings: Object.fromEntries(texts), messages: kept, chosen: shown,
  };
}

/** Of what is chosen, only what leads from a message to one of its own answers: such a path ends. */
const linksOf = (messages, chosen) => Object.entries(chosen ?? {}).filter(([parent, child]) => messages[child]?.parent === parent);

function cleanedMessage(m) {
  const state = m.role === "assistant" ? (m.state === "stopped" || m.state === "broken" ? m.state : m.state === "streaming" ? "stopped" : "done") : undefined;
  return {
    id: m.id, parent: m.parent, role: m.role, at: Number(m.at) || 0, content: text(m.content), thought: text(m.thought), state,
    finish: text(m.finish), stats: text(m.stats), error: text(m.error), model: text(m.model), name: text(m.name), callId: text(m.callId),
    isFull: Boolean(m.isFull), context: Number(m.context) || 0,
    files: list(m.files, (file) => ({ name: text(file.name), text: text(file.text) })),
    calls: list(m.calls, (call) => ({ id: text(call.id), name: text(call.name), text: text(call.text) })),
  };
}
