// The inspector's address: what is shown stands in the page's hash, so a link or a reload brings it back.
// #inspector?text=…&layer=16&head=0&token=4&edits=[…]&beside=…; a text that was no text (a chat through its template) is
// `ids`, with `answer`, where its answer begins.
import { cleaned, MAX_EDITS } from "../causes/edits.js";

const VIEW = "#inspector";
const PAUSE = 100; // ms: who walks through heads writes once; browsers refuse too many
const MAX_IDS = 512;

let timer = 0;
let current = ""; // the hash that was followed or written last

/** What a hash asks for: {asked: {text} or {ids, answerAt?}, layer?, head?, token?, edits, hidesFirst, beside}; null: nothing.
 * Anyone may have written it, so only what belongs there is taken. */
export function read(hash) {
  if (!hash.startsWith(`${VIEW}?`)) return null;
  const fields = new URLSearchParams(hash.slice(VIEW.length + 1));
  const number = (name) => (/^\d{1,4}$/.test(fields.get(name) ?? "") ? Number(fields.get(name)) : undefined);
  const ids = fields.get("ids");
  const isList = /^\d{1,9}(,\d{1,9})*$/.test(ids ?? "") && ids.split(",").length <= MAX_IDS;
  if (!isList && !fields.get("text")) return null;
  return {
    asked: isList ? { ids: ids.split(",").map(Number), answerAt: number("answer") } : { text: fields.get("text") },
    layer: number("layer"), head: number("head"), token: number("token"),
    edits: editsOf(fields.get("edits")), hidesFirst: fields.get("first") === "hidden", beside: fields.get("beside"),
  };
}

function editsOf(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    return Array.isArray(found) ? found.slice(0, MAX_EDITS).map(cleaned).filter(Boolean) : [];
  } catch {
    return [];
  }
}

/** The hash of a state, which `read` takes. */
export function hashOf({ asked, layer, head, token, edits, hidesFirst, beside }) {
  const fields = new URLSearchParams();
  if (asked.ids) fields.set("ids", asked.ids.join(","));
  if (asked.answerAt !== undefined && asked.answerAt !== null) fields.set("answer", asked.answerAt);
  if (!asked.ids) fields.set("text", asked.text);
  fields.set("layer", layer);
  fields.set("head", head);
  if (token !== null) fields.set("token", token);
  if (edits.length) fields.set("edits", JSON.stringify(edits));
  if (hidesFirst) fields.set("first", "hidden");
  if (beside) fields.set("beside", beside);
  return `${VIEW}?${fields}`;
}

/** What the page's address asks for, if it is another than what is shown. */
export function followed() {
  if (location.hash === current) return null;
  clearTimeout(timer);
  current = location.hash;
  return read(location.hash);
}

/** Writes a state, while this view is the one that is shown; no step back is added to the browser's. */
export function write(state) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (location.hash.split("?")[0] !== VIEW) return;
    history.replaceState(null, "", hashOf(state));
    current = location.hash;
  }, PAUSE);
}
