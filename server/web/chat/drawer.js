// The chats beside the conversation: to open, search, rename, export, import and delete them.
import { $, el } from "../dom.js";
import { exportAll, exportMarkdown, importFile } from "./backup.js";
import { chats, forget, save } from "./store.js";

let acts = null; // {open(chat), openNew(), stop(chat), current(), tell(sentence, label, act)}
let renaming = null; // id

export function mount(given) {
  acts = given;
  $("clear").addEventListener("click", () => acts.openNew());
  $("search").addEventListener("input", draw);
  $("export").addEventListener("click", exportAll);
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", async () => {
    const [file] = $("import-file").files;
    if (file) await importFile(file).then((count) => acts.tell(`${count} ${count === 1 ? "chat" : "chats"} came in.`), (error) => acts.tell(error.message));
    $("import-file").value = "";
    draw();
  });
  $("history-button").addEventListener("click", () => toggle());
  $("log").addEventListener("click", () => toggle(false));
}

/** On a narrow screen the drawer lies over the chat; on a wide one it always stands beside it (style). */
export function toggle(show = !$("history").classList.contains("open")) {
  $("history").classList.toggle("open", show);
  $("history-button").setAttribute("aria-expanded", String(show));
}

export function draw() {
  const wanted = $("search").value.trim().toLowerCase();
  const all = chats();
  const found = all.filter((chat) => !wanted || matches(chat, wanted));
  $("search").hidden = all.length < 2 && !wanted;
  $("export").disabled = !all.length;
  $("chats").replaceChildren(...found.map(row));
  $("chats-empty").hidden = found.length > 0 || !wanted;
  $("chats").querySelector("input")?.select();
}

function matches(chat, wanted) {
  const has = (text) => (text ?? "").toLowerCase().includes(wanted);
  return has(chat.title) || Object.values(chat.messages).some(({ content, files = [] }) => has(content) || files.some((file) => has(file.name)));
}

function row(chat) {
  if (chat.id === renaming) return el("li", {}, renameBox(chat));
  const title = chat.title || "…";
  const button = (sign, name, act) => el("button", { type: "button", class: "quiet more", title: name, "aria-label": `${name}: ${title}`, onclick: act }, sign);
  return el("li", {},
    el("button", { type: "button", class: "pick", dir: "auto", "aria-current": chat.id === acts.current().id && "true", onclick: () => acts.open(chat) }, title),
    button("✎", "Rename", () => rename(chat)), button("⤓", "Save as Markdown", () => exportMarkdown(chat)), button("×", "Delete", () => drop(chat)));
}

function rename(chat) {
  renaming = chat.id;
  draw();
}

function renameBox(chat) {
  const end = (isKept) => {
    if (renaming !== chat.id) return; // leaving the box follows on Enter
    renaming = null;
    if (isKept && box.value.trim()) {
      chat.title = box.value.trim().slice(0, 200);
      chat.named = true;
      save(chat, false);
    }
    draw();
  };
  const box = el("input", {
    value: chat.title, dir: "auto", "aria-label": "Name of the chat", onblur: () => end(true),
    onkeydown: (event) => {
      if (event.key === "Enter") end(true);
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it stops no answer
      end(false);
    },
  });
  return box;
}

function drop(chat) {
  acts.stop(chat);
  forget(chat.id);
  if (chat === acts.current()) acts.openNew();
  else draw();
  acts.tell(`“${chat.title}” is deleted.`, "Undo", () => {
    save(chat, false);
    acts.open(chat);
  });
}
