// What stands in a line of Markdown: each token of marked's becomes an element or text.
import { el } from "../dom.js";
import { decoded } from "./entities.js";
import { formula } from "./math.js";

const INLINE = {
  text: ({ text, tokens }) => (tokens ? inlineNodes(tokens) : [decoded(text)]),
  escape: ({ text }) => [text],
  strong: ({ tokens }) => [el("strong", {}, ...inlineNodes(tokens))],
  em: ({ tokens }) => [el("em", {}, ...inlineNodes(tokens))],
  del: ({ tokens }) => [el("s", {}, ...inlineNodes(tokens))],
  codespan: ({ text }) => [el("code", {}, text)],
  br: () => [el("br")],
  html: ({ raw }) => [/^<br *\/?>$/i.test(raw) ? el("br") : raw], // any other is text here
  math: (token) => [formula(token)],
  link: (token) => link(token, inlineNodes(token.tokens)),
  image: (token) => link(token, [token.text || token.href]), // never fetched
};

export function inlineNodes(tokens) {
  return tokens.flatMap((token) => (Object.hasOwn(INLINE, token.type) ? INLINE[token.type](token) : [token.raw]));
}

/** A link people may click; anything but http, https and mailto stays the text it was. */
function link({ raw, href, type }, label) {
  const target = decoded(href);
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return [raw];
  const words = label.map((node) => (node.tagName === "A" ? node.textContent : node)); // of a picture that is a link
  const options = { href: target, target: "_blank", rel: "noopener noreferrer", title: target };
  return [el("a", options, ...(type === "image" ? ["🖼 "] : []), ...words)];
}
