// Text files that go with a message. They are read here and sent as text; nothing is uploaded anywhere else.
import { el } from "../dom.js";

const MAX_BYTES = 1_000_000; // of one file; a request may have 4 MiB

/** -> {name, text}; throws, saying why, for what is no text or too large. */
export async function readFile(file) {
  if (file.size > MAX_BYTES) throw new Error(`${file.name} has ${file.size.toLocaleString("en")} bytes, at most ${MAX_BYTES.toLocaleString("en")} can be attached.`);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is no text in UTF-8: only text can be attached.`);
  }
  if (text.includes("\0")) throw new Error(`${file.name} is no text: only text can be attached.`);
  return { name: file.name, text };
}

/** The files of a message, folded. */
export function fileNodes(files = []) {
  return files.map(({ name, text }) => el("details", { class: "file" },
    el("summary", {}, `${name} · ${text.length.toLocaleString("en")} characters`), el("pre", { tabindex: 0, dir: "auto" }, text)));
}

/** The files of a draft, each with a button that takes it away. */
export function fileChips(files, drop) {
  return files.map((file) => el("span", { class: "chip file-chip" }, file.name,
    el("button", { type: "button", class: "quiet", "aria-label": `Remove ${file.name}`, onclick: () => drop(file) }, "×")));
}
