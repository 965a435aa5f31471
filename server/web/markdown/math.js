// Formulas by KaTeX, which is fetched when the first one is drawn. Until then, and for what it cannot
// read, the source stands there.
import { el } from "../dom.js";

const FOLDER = new URL("../vendor/katex-0.19.1/", import.meta.url).href;
const MAX_SOURCE = 5000; // characters
const OPTIONS = { output: "html", trust: false, throwOnError: true, strict: "ignore", maxExpand: 200, maxSize: 20 };

let loading = null;

/** An element that shows a formula: `{text, isDisplay}` is its TeX source and whether it stands alone. */
export function formula({ text, raw, isDisplay }) {
  const node = el("span", { class: isDisplay ? "math display" : "math" }, raw.trim());
  if (text.length <= MAX_SOURCE) draw(node, text, isDisplay);
  return node;
}

async function draw(node, text, displayMode) {
  try {
    if (!self.katex) await (loading ??= load());
    const drawn = el("span", { role: "math", "aria-label": text });
    self.katex.render(text, drawn, { ...OPTIONS, displayMode });
    node.replaceChildren(drawn);
    node.dispatchEvent(new Event("grown", { bubbles: true }));
  } catch (error) {
    node.title = error.message; // a command that KaTeX does not know
  }
}

async function load() {
  document.head.append(el("link", { rel: "stylesheet", href: `${FOLDER}katex.min.css` }));
  await import(`${FOLDER}katex.min.js`); // defines self.katex
}
