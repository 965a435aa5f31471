// Text to marked's tokens: CommonMark and GFM, and formulas, which no backslash or star may break.
import { Lexer, Marked } from "../vendor/marked-18.2.1/marked.esm.js";

const MAX_INLINE = 4000; // characters of a paragraph: beyond, a model going in circles takes seconds
const TOO_DEEP = /^(?:[ \t]*(?:>|[-*+][ \t]|\d{1,9}[.)][ \t])){30}/m; // blocks in blocks

// $$…$$ and \[…\] stand alone, \(…\) and $…$ in a line. A dollar that opens has no space behind it, one
// that closes none before it and no digit behind it: "$5 and $6" is money.
const BLOCK = /^ {0,3}(?:\$\$([^$]+)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/;
const INLINE = /^(?:\$\$([^$]+)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?! )((?:\\[\s\S]|[^$\\\n])+?)(?<! )\$(?!\d))/;

const mathBlock = {
  name: "mathBlock",
  level: "block",
  start: (text) => text.match(/\n {0,3}(?:\$\$|\\\[)/)?.index,
  tokenizer(text) {
    const found = text.match(BLOCK);
    return found && { type: "math", raw: found[0], text: (found[1] ?? found[2]).trim(), isDisplay: true };
  },
};

const mathInline = {
  name: "mathInline",
  level: "inline",
  start: (text) => text.match(/\$|\\[([]/)?.index,
  tokenizer(text) {
    const found = text.match(INLINE);
    if (!found) return undefined;
    const [raw, ...bodies] = found;
    const isDisplay = bodies[0] !== undefined || bodies[1] !== undefined;
    return { type: "math", raw, text: bodies.find((body) => body !== undefined).trim(), isDisplay };
  },
};

/** marked's, within bounds: what is too long for its patterns is plain text. */
class BoundedLexer extends Lexer {
  inlineTokens(text, tokens = []) {
    if (text.length <= MAX_INLINE) return super.inlineTokens(text, tokens);
    tokens.push({ type: "text", raw: text, text });
    return tokens;
  }
}

const ANYWHERE = new RegExp(INLINE.source.slice(1), "g");

/** What marked looks at to find emphasis: a star within a formula is none. */
const emStrongMask = (text) => text.replace(ANYWHERE, (formula) => "a".repeat(formula.length));

const options = new Marked({ gfm: true }, { extensions: [mathBlock, mathInline], hooks: { emStrongMask } }).defaults;

/** -> {blocks: marked's tokens, links: all definitions of links, as one text}. */
export function tokensOf(text) {
  if (TOO_DEEP.test(text)) return plain(text);
  try {
    const tokens = new BoundedLexer(options).lex(text);
    const blocks = tokens.filter(({ type, tag }) => type !== "space" && (type !== "def" || tag.startsWith("^")));
    return { blocks, links: JSON.stringify(tokens.links) };
  } catch {
    return plain(text); // marked throws where a stack ends
  }
}

function plain(text) {
  const inner = { type: "text", raw: text, text };
  return { blocks: [{ type: "paragraph", raw: text, tokens: [inner] }], links: "{}" };
}
