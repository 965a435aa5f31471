// Chats, kept in this browser and nowhere else. The latest 100; a browser without storage keeps none.

const KEY = "thirdeye.chats";
const MAX_CHATS = 100;

export function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or forbidden: the page works on without.
  }
}

/** All chats, latest first: {id, title, updated, messages: [{role, content, note?}]}. */
export function chats() {
  const found = read(KEY, []);
  return Array.isArray(found) ? found : [];
}

export function newChat() {
  return { id: crypto.randomUUID?.() ?? String(Math.random()), title: "", updated: 0, messages: [] };
}

export function save(chat) {
  chat.updated = Date.now();
  chat.title = chat.messages.find((message) => message.role === "user")?.content.slice(0, 60) ?? "";
  write(KEY, [chat, ...chats().filter((other) => other.id !== chat.id)].slice(0, MAX_CHATS));
}

export function forget(id) {
  write(KEY, chats().filter((chat) => chat.id !== id));
}
