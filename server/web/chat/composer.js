// The box in which a message is written: it grows, takes files, keeps its draft and counts its tokens.
import { post, server } from "../api.js";
import { $ } from "../dom.js";
import { draftOf, keepDraft } from "./drafts.js";
import { fileChips, readFile } from "./files.js";
import { askedOf, conversation } from "./request.js";
import { leafOf } from "./tree.js";

const PAUSE = 400; // ms of no typing before tokens are counted
const MAX_HEIGHT = 240; // CSS pixels

let chat = null; // whose draft it is
let files = [];
let counting = null; // AbortController
let timer = 0;
let key = "new"; // of the draft

/** `send(text, files)`; `editLast()` is what the upward arrow in an empty box does; `tell(sentence)`. */
export function mount({ send, editLast, tell }) {
  const submit = () => {
    const text = $("prompt").value.trim();
    if (!(text || files.length) || !server.model) return;
    if (!send(text, files)) return;
    keepDraft(key, { text: "" });
    show(chat);
  };
  $("form").addEventListener("submit", (event) => (event.preventDefault(), submit()));
  $("prompt").addEventListener("input", changed);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "ArrowUp" && !$("prompt").value) return editLast();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return undefined;
    event.preventDefault();
    return submit();
  });
  const attach = async (list) => {
    for (const file of list) await readFile(file).then((read) => files.push(read), (error) => tell(error.message));
    changed();
  };
  $("attach").addEventListener("click", () => $("attach-file").click());
  $("attach-file").addEventListener("change", async () => {
    await attach([...$("attach-file").files]);
    $("attach-file").value = "";
  });
  $("prompt").addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files];
    if (!pasted.length) return;
    event.preventDefault();
    attach(pasted);
  });
  const takesFiles = (act) => (event) => {
    if (!event.dataTransfer.types.includes("Files")) return; // text goes where it is dropped
    event.preventDefault();
    act?.([...event.dataTransfer.files]);
  };
  $("chat").addEventListener("dragover", takesFiles());
  $("chat").addEventListener("drop", takesFiles(attach));
}

/** The draft of a chat comes into the box; all new chats have the same. */
export function show(next) {
  chat = next;
  key = leafOf(chat) ? chat.id : "new";
  const draft = draftOf(key);
  $("prompt").value = draft.text;
  files = draft.files;
  drawn();
}

function changed() {
  const { settings } = draftOf(key);
  keepDraft(key, { text: $("prompt").value, files, settings });
  drawn();
}

function drawn() {
  const box = $("prompt");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, MAX_HEIGHT)}px`;
  const chips = fileChips(files, (file) => {
    files = files.filter((other) => other !== file);
    changed();
  });
  $("draft-files").replaceChildren(...chips);
  $("draft-files").hidden = !files.length;
  clearTimeout(timer);
  counting?.abort();
  if (!box.value && !files.length) says("");
  else timer = setTimeout(count, PAUSE);
}

/** How long the prompt would be with this draft. A model that is not loaded is not loaded for it. */
async function count() {
  if (server.state !== "ready" || !server.model) return;
  counting = new AbortController();
  const draft = { id: "", parent: leafOf(chat)?.id ?? "", role: "user", content: $("prompt").value.trim(), files };
  try {
    const { system, fields } = askedOf(chat.settings);
    const body = { model: server.model, messages: conversation(chat, draft, system), tools: fields.tools };
    const response = await post("/v1/chat/completions/input_tokens", body, counting.signal);
    const { input_tokens: tokens } = await response.json();
    const over = tokens + 1 - server.context;
    says(over > 0 ? `${tokens.toLocaleString("en")} tokens: ${over.toLocaleString("en")} too many for this model` : `${tokens.toLocaleString("en")} of ${server.context.toLocaleString("en")} tokens`, over > 0);
  } catch {
    says(""); // it is a courtesy: what is wrong is said when it is sent
  }
}

function says(text, isError = false) {
  $("draft-tokens").textContent = text;
  $("draft-tokens").classList.toggle("error", isError);
}
