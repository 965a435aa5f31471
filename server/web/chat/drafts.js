// What is written and not yet sent, for each chat; of a new chat its settings too.
import { read, write } from "../storage.js";

const KEY = "thirdeye.drafts";
const MAX_DRAFTS = 50;

/** -> {text, files, settings?} */
export function draftOf(id) {
  const { text = "", files = [], settings } = read(KEY, {})[id] ?? {};
  return { text, files, settings };
}

/** Keeps a draft; an empty one goes. */
export function keepDraft(id, draft) {
  const { [id]: _, ...others } = read(KEY, {});
  const isEmpty = !draft.text && !draft.files?.length && !draft.settings;
  const kept = Object.entries(others).slice(isEmpty ? -MAX_DRAFTS : 1 - MAX_DRAFTS);
  write(KEY, Object.fromEntries(isEmpty ? kept : [...kept, [id, draft]]));
}
