// A small Markdown to DOM nodes: the part of it that models write. Everything is a text node or one of
// the elements named here; there is no HTML, no image is ever fetched, and a link has to be http(s) or mailto.
import { el } from "./dom.js";

/** Draws `text` into `node`. Blocks that have not changed since the last call stay as they are. */
export function render(node, text) {
  const blocks = split(text);
  const old = node.blocks ?? [];
  let same = 0;
  while (same < old.length && same < blocks.length && old[same] === blocks[same]) same++;
  while (node.childNodes.length > same) node.lastChild.remove();
  for (const block of blocks.slice(same)) node.append(draw(block));
  node.blocks = blocks;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const TABLE_LINE = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;

/** Source blocks: a fence with all it holds, or lines up to an empty one or a change of kind. */
function split(text) {
  const blocks = [];
  let lines = [];
  let fence = null;
  const flush = () => {
    if (lines.length) blocks.push(lines.join("\n"));
    lines = [];
  };
  for (const line of text.split("\n")) {
    if (fence) {
      lines.push(line);
      const end = line.trim();
      if (end.startsWith(fence) && end === end[0].repeat(end.length)) {
        fence = null;
        flush();
      }
      continue;
    }
    const opens = line.match(FENCE);
    if (opens || HEADING.test(line) || RULE.test(line)) flush();
    if (opens) fence = opens[1];
    if (line.trim() === "") flush();
    else lines.push(line);
    if (!fence && (HEADING.test(line) || RULE.test(line))) flush();
  }
  flush();
  return blocks;
}

function draw(block) {
  const lines = block.split("\n");
  const fence = lines[0].match(FENCE);
  if (fence) return code(lines, fence);
  const heading = lines[0].match(HEADING);
  if (heading) return el(`h${Math.min(heading[1].length + 2, 6)}`, {}, ...inline(heading[2]));
  if (RULE.test(lines[0])) return el("hr");
  if (lines[0].trimStart().startsWith(">")) {
    const quote = el("blockquote");
    for (const inner of split(lines.map((line) => line.replace(/^\s*> ?/, "")).join("\n"))) {
      quote.append(inner === block ? el("p", {}, inner) : draw(inner));
    }
    return quote;
  }
  if (lines.length > 1 && lines[0].includes("|") && TABLE_LINE.test(lines[1])) return table(lines);
  if (ITEM.test(lines[0])) return list(lines);
  const item = lines.findIndex((line) => ITEM.test(line));
  if (item > 0) {
    const before = el("p", {}, ...inline(lines.slice(0, item).join("\n")));
    return el("div", {}, before, list(lines.slice(item)));
  }
  return el("p", {}, ...inline(lines.join("\n")));
}

function code(lines, fence) {
  const isClosed = lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]);
  const text = lines.slice(1, isClosed ? -1 : undefined).join("\n");
  const copy = el("button", { class: "quiet", type: "button" }, "Copy");
  copy.addEventListener("click", () => navigator.clipboard?.writeText(text));
  const head = el("div", { class: "code-head" }, el("span", {}, fence[2]), copy);
  return el("div", { class: "code" }, head, el("pre", { tabindex: 0 }, el("code", {}, text)));
}

/** Items by their indent; lines that are no item belong to the one before. */
function list(lines) {
  const root = { indent: -1, node: null, item: null };
  const stack = [root];
  let words = null;
  const finish = () => words && words.into.prepend(...inline(words.text));
  for (const line of lines) {
    const found = line.match(ITEM);
    if (!found) {
      words.text += `\n${line.trim()}`;
      continue;
    }
    finish();
    const [, space, number, text] = found;
    while (stack.length > 1 && space.length < stack.at(-1).indent) stack.pop();
    if (stack.length === 1 || space.length > stack.at(-1).indent + 1) {
      const node = el(number ? "ol" : "ul", number && number !== "1" ? { start: number } : {});
      if (stack.length > 1) stack.at(-1).item.append(node);
      else root.node = node;
      stack.push({ indent: space.length, node, item: null });
    }
    const level = stack.at(-1);
    level.item = el("li");
    level.node.append(level.item);
    words = { into: level.item, text };
  }
  finish();
  return root.node;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => el("tr", {}, ...cells(line).map((cell) => el(tag, {}, ...inline(cell))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  return el("div", { class: "wide" },
    el("table", {}, el("thead", {}, row(lines[0], "th")), el("tbody", {}, ...body)));
}

// Earlier ones win at the same place. Every pattern is bounded, so that no text takes long.
const INLINE = [
  [/(`+)([^`]{1,2000}?)\1(?!`)/, (found) => el("code", {}, found[2].trim() || found[2])],
  [/\\([\\`*_{}[\]()#+.!~|>-])/, (found) => found[1]],
  [/!?\[([^\][]{1,500})\]\(\s*([^\s()]{1,2000})(?:\s+"[^"]{0,200}")?\s*\)/, link],
  [/\*\*(?=\S)([^*]{1,2000}?\S|\S)\*\*/, (found) => el("strong", {}, ...inline(found[1]))],
  [/\*(?=\S)([^*\n]{1,1000}?\S|\S)\*/, (found) => el("em", {}, ...inline(found[1]))],
  [/(?<![\p{L}\d_])_(?=\S)([^_\n]{1,1000})_(?![\p{L}\d_])/u, (found) => el("em", {}, ...inline(found[1]))],
  [/~~(?=\S)([^~]{1,1000})~~/, (found) => el("s", {}, ...inline(found[1]))],
];

function inline(text) {
  const nodes = [];
  let rest = text;
  while (rest) {
    let first = null;
    for (const [pattern, make] of INLINE) {
      const found = rest.match(pattern);
      if (found && (!first || found.index < first.found.index)) first = { found, make };
    }
    if (!first) break;
    const { found, make } = first;
    if (found.index) nodes.push(rest.slice(0, found.index));
    nodes.push(make(found));
    rest = rest.slice(found.index + found[0].length);
  }
  if (rest) nodes.push(rest);
  return nodes;
}

/** A link people may click; anything but http, https and mailto stays the text it was. */
function link(found) {
  const [whole, label, target] = found;
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return whole;
  const options = { href: target, target: "_blank", rel: "noopener noreferrer", title: target };
  return el("a", options, label);
}
