// The settings of the chat on screen. A new chat begins with those that were made the default.
import { server } from "../api.js";
import { $ } from "../dom.js";
import { read, write } from "../storage.js";
import { draftOf, keepDraft } from "./drafts.js";
import { calm, FIELDS } from "./request.js";
import { save } from "./store.js";
import { leafOf } from "./tree.js";

const DEFAULTS = "thirdeye.settings";
const NAMES = ["system", ...FIELDS, "thinking", "tools"];

let chat = null;

export function mount() {
  $("settings").addEventListener("input", keep);
  $("make-default").addEventListener("click", () => {
    write(DEFAULTS, chat.settings);
    drawButton();
  });
}

/** What a new chat begins with. */
export function settingsOfNew() {
  return draftOf("new").settings ?? read(DEFAULTS, {});
}

/** The settings of a chat come into the fields. */
export function show(next) {
  chat = next;
  for (const name of NAMES) $(`set-${name}`).value = chat.settings[name] ?? "";
  checkTools();
  drawButton();
}

function keep() {
  const given = NAMES.map((name) => [name, $(`set-${name}`).value]).filter(([, value]) => value !== "");
  chat.settings = Object.fromEntries(given);
  checkTools();
  drawButton();
  if (leafOf(chat)) save(chat, false);
  else keepDraft("new", { ...draftOf("new"), settings: chat.settings });
}

function checkTools() {
  const box = $("set-tools");
  let says = "";
  try {
    if (box.value.trim() && !Array.isArray(JSON.parse(box.value))) says = "This is no JSON list.";
  } catch (error) {
    says = `This is no JSON: ${error.message}`;
  }
  box.setCustomValidity(says);
  $("tools-note").textContent = says;
}

function drawButton() {
  $("make-default").disabled = JSON.stringify(read(DEFAULTS, {})) === JSON.stringify(chat.settings);
}

/** Empty fields show what counts instead. */
export function showDefaults() {
  const api = { temperature: 1, top_p: 1, top_k: 0, frequency_penalty: 0, max_tokens: "all that fit" };
  for (const [name, value] of Object.entries({ ...api, ...server.suggested, ...calm() })) {
    const field = $(`set-${name}`);
    if (field) field.placeholder = value === 0 && name !== "temperature" ? "off" : value;
  }
}
