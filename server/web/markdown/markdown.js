// What a model writes, as DOM nodes: marked reads it, and each of its tokens becomes elements named
// here, with text nodes. No HTML is ever made, no image fetched; a link is http(s) or mailto.
import { el } from "../dom.js";
import { blockNode } from "./blocks.js";
import { tokensOf } from "./lexer.js";

/** A block goes the way its first letter goes, left to right or right to left; code and formulas do not. */
function drawn(block) {
  const node = blockNode(block) ?? el("p", {}, block.raw);
  if (block.type !== "code" && block.type !== "math") node.dir = "auto";
  return node;
}

/** Draws `text` into `node`. Blocks that have not changed since the last call stay as they are. */
export function render(node, text) {
  const { blocks, links } = tokensOf(text);
  const old = node.links === links ? node.blocks : []; // a definition may change any block's links
  let same = 0;
  while (same < old.length && same < blocks.length && old[same] === blocks[same].raw) same++;
  while (node.childNodes.length > same) node.lastChild.remove();
  for (const block of blocks.slice(same)) node.append(drawn(block));
  node.blocks = blocks.map((block) => block.raw);
  node.links = links;
}
