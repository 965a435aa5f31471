// A block of code: its language, a button to copy it, its lines in colors once it has ended.
import { copyButton } from "../copy.js";
import { el } from "../dom.js";
import { color } from "./colors.js";

export function codeBlock({ raw, text, lang = "", codeBlockStyle }) {
  const language = lang.match(/^[\w+#.-]*/)[0];
  const code = el("code", {}, text);
  const hasEnded = codeBlockStyle !== "indented" && /\n {0,3}(?:`{3,}|~{3,})\s*$/.test(raw);
  if (hasEnded) color(code, text, language.toLowerCase());
  const head = el("div", { class: "code-head" }, el("span", {}, language), copyButton(() => text, () => code));
  return el("div", { class: "code" }, head, el("pre", { tabindex: 0, "aria-label": "Code" }, code));
}
