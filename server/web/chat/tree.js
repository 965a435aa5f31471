// A chat's messages are a tree: to edit a question or to try an answer again adds a sibling, and nothing
// is ever taken away. What is on screen is one path through it, from the root to a leaf.
//
//   chat      {version: 2, id, title, named, updated, settings, messages: {id: message}, chosen: {parent or "": child}}
//   message   {id, parent, role, content, thought, calls, files, state, finish, ...}
//             at: when it changed last, in ms; state of an answer: "streaming", "done", "stopped", "broken"

export const newId = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");

export function newChat(settings = {}) {
  return { version: 2, id: newId(), title: "", updated: 0, settings: { ...settings }, messages: {}, chosen: {} };
}

/** The messages on screen, first to last. */
export function pathOf(chat) {
  const path = [];
  for (let id = chat.chosen[""]; id; id = chat.chosen[id]) path.push(chat.messages[id]);
  return path;
}

export const leafOf = (chat) => pathOf(chat).at(-1);

/** The path down to a message, itself included. */
export function pathTo(chat, message) {
  const path = [];
  for (let one = message; one; one = chat.messages[one.parent]) path.unshift(one);
  return path;
}

/** Adds a message below `parent` (an id, or "" for the root), and shows it. */
export function add(chat, parent, fields) {
  const message = { id: newId(), parent, at: Date.now(), ...fields };
  chat.messages[message.id] = message;
  chat.chosen[parent] = message.id;
  return message;
}

/** All messages that stand where this one does, in the order of their making. */
export function siblingsOf(chat, message) {
  return Object.values(chat.messages).filter((other) => other.parent === message.parent);
}

/** Shows the sibling that is `step` further; below it what was shown there last. */
export function turn(chat, message, step) {
  const siblings = siblingsOf(chat, message);
  const next = siblings[siblings.indexOf(message) + step];
  if (next) chat.chosen[message.parent] = next.id;
}

/** A list of messages, as version 1 kept them and as other programs write them, as a tree. */
export function fromList(messages, fields = {}) {
  const chat = { ...newChat(), ...fields };
  let parent = "";
  for (const { role, content, note, thought, reasoning_content: reasoning } of messages) {
    if (role === "system" || role === "developer") chat.settings.system = textOf(content);
    if (role !== "user" && role !== "assistant") continue;
    const own = role === "assistant" ? { state: "done", stats: textOf(note), thought: textOf(thought ?? reasoning) } : {};
    parent = add(chat, parent, { role, content: textOf(content), ...own }).id;
  }
  return chat;
}

/** What a message says, which may be a list of parts; of what is no text, nothing. */
function textOf(content) {
  if (Array.isArray(content)) return content.map((part) => textOf(part?.text ?? part)).filter(Boolean).join("\n\n");
  return ["string", "number"].includes(typeof content) ? String(content) : "";
}

/** What another tab has written comes into `chat`, whose messages stay the objects they are. Of a message
 * that both have, the one that changed last counts; what is on screen here stays on screen. */
export function absorb(chat, theirs) {
  for (const message of Object.values(theirs.messages)) {
    const own = chat.messages[message.id];
    if (!own) chat.messages[message.id] = message;
    else if (message.at > own.at) Object.assign(own, message);
  }
  const { title, named, settings, updated } = theirs;
  Object.assign(chat, { title, named, settings, updated, chosen: { ...theirs.chosen, ...chat.chosen } });
}
