// Calls of tools that an answer makes, shown as calls; the reader is the tool, and writes the results.
import { el } from "../dom.js";
import { codeBlock } from "../markdown/code.js";

/** One element for each call of an answer. */
export function callNodes(calls) {
  return calls.map(({ name, text }) => {
    const laidOut = tidy(text);
    const raw = `\`\`\`json\n${laidOut}\n\`\`\``;
    return el("div", { class: "call" }, el("p", {}, "Calls ", el("code", {}, name)), codeBlock({ raw, text: laidOut, lang: "json" }));
  });
}

/** A form for the results of an answer's calls; `send(results)` has one for each, in order. */
export function resultsForm(calls, send) {
  const boxes = calls.map(({ name }) => el("textarea", { rows: 2, "aria-label": `Result of ${name}`, placeholder: `What ${name} returns` }));
  const submit = (event) => {
    event.preventDefault();
    send(boxes.map((box) => box.value));
  };
  const word = calls.length > 1 ? "Send results" : "Send result";
  return el("form", { class: "results", onsubmit: submit }, ...boxes, el("button", { type: "submit" }, word));
}

/** JSON in lines; while it is being written it is none yet. */
function tidy(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
