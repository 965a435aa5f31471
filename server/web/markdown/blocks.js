// Blocks of Markdown: each token of marked's becomes one element.
import { el } from "../dom.js";
import { codeBlock } from "./code.js";
import { inlineNodes } from "./inline.js";
import { formula } from "./math.js";

const BLOCKS = {
  paragraph: ({ tokens }) => el("p", {}, ...inlineNodes(tokens)),
  text: ({ text, tokens }) => el("span", {}, ...(tokens ? inlineNodes(tokens) : [text])), // of a tight item
  heading: ({ depth, tokens }) => el(`h${Math.min(depth + 1, 6)}`, {}, ...inlineNodes(tokens)),
  hr: () => el("hr"),
  blockquote: ({ tokens }) => el("blockquote", {}, ...blockNodes(tokens)),
  code: codeBlock,
  def: ({ raw }) => el("p", {}, raw.trimEnd()), // a footnote, which CommonMark takes for a link's definition
  html: ({ raw }) => el("p", {}, raw.trimEnd()), // is text here
  list,
  table,
  math: (token) => el("div", { class: "wide", tabindex: 0 }, formula(token)),
  checkbox: ({ checked }) => el("span", { role: "img", "aria-label": checked ? "done" : "to do" }, checked ? "☑ " : "☐ "),
};

/** One token's element; null for what is not drawn. */
export function blockNode(token) {
  return Object.hasOwn(BLOCKS, token.type) ? BLOCKS[token.type](token) : null;
}

function blockNodes(tokens) {
  return tokens.map(blockNode);
}

function list({ ordered, start, items }) {
  const isNumbered = ordered && start !== 1;
  const rows = items.map(({ task, tokens }) => el("li", { class: task && "task" }, ...blockNodes(tokens)));
  return el(ordered ? "ol" : "ul", { start: isNumbered && String(start) }, ...rows);
}

function table({ header, rows }) {
  const cell = (tag) => ({ tokens, align }) => el(tag, { class: align && `to-${align}` }, ...inlineNodes(tokens));
  const body = rows.map((row) => el("tr", {}, ...row.map(cell("td"))));
  const head = el("tr", {}, ...header.map(cell("th")));
  return el("div", { class: "wide", tabindex: 0 }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body)));
}
