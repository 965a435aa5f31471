// Code in colors, by highlight.js: its core and a language are fetched when they are first needed.
import { el } from "../dom.js";

const FOLDER = new URL("../vendor/highlight-11.12.0/", import.meta.url).href;
const MAX_CODE = 20_000; // characters

// A language's file, by the names that models write on a fence.
const NAMES = {
  bash: "sh zsh", c: "h", cpp: "c++ cc hpp cxx", csharp: "cs c#", css: "", diff: "patch", dockerfile: "docker", go: "golang", haskell: "hs",
  ini: "toml conf cfg", java: "", javascript: "js jsx mjs node", json: "jsonc json5 jsonl", julia: "jl", kotlin: "kt", latex: "tex", lua: "",
  makefile: "make mk", markdown: "md", perl: "pl", php: "", powershell: "ps1", python: "py python3", r: "", ruby: "rb", rust: "rs",
  scala: "", shell: "console", sql: "sqlite postgresql mysql", swift: "", typescript: "ts tsx", xml: "html svg xhtml", yaml: "yml",
};
const FILES = new Map(Object.entries(NAMES).flatMap(([file, others]) => [file, ...others.split(" ")].map((name) => [name, file])));

const loaded = new Map(); // a promise for each file

/** Colors `text` in `node`, where the language is known; what fails stays plain. */
export async function color(node, text, language) {
  const file = FILES.get(language);
  if (!file || text.length > MAX_CODE) return;
  try {
    const core = await get("core");
    if (!loaded.has(file)) loaded.set(file, import(`${FOLDER}languages/${file}.min.js`).then((found) => core.registerLanguage(file, found.default)));
    await loaded.get(file);
    const nodes = spans(core.highlight(text, { language: file, ignoreIllegals: true }).value);
    if (nodes.textContent === text) node.replaceChildren(nodes);
  } catch {
    loaded.delete(file); // the network: the next block tries again
  }
}

function get(core) {
  if (!loaded.has(core)) loaded.set(core, import(`${FOLDER}core.min.js`).then((found) => found.default));
  return loaded.get(core);
}

/** highlight.js's result holds spans with a class, their ends, and escaped text; each becomes a node. */
function spans(source) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const [piece, names] of source.matchAll(/<span class="([\w .-]*)">|<\/span>|[^<]+/g)) {
    if (names !== undefined) {
      const span = el("span", { class: names });
      open.at(-1).append(span);
      open.push(span);
    } else if (piece === "</span>") open.pop();
    else open.at(-1).append(piece.replace(/&(amp|lt|gt|quot|#x27);/g, (_, name) => ESCAPES[name]));
  }
  return root;
}

const ESCAPES = { amp: "&", lt: "<", gt: ">", quot: '"', "#x27": "'" };
