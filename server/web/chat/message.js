// One message as an element: what was written, thought, called and attached, and what can be done with it.
import { copyButton } from "../copy.js";
import { el } from "../dom.js";
import { render } from "../markdown/markdown.js";
import { callNodes, resultsForm } from "./calls.js";
import { fileNodes } from "./files.js";
import { canContinue, noteOf } from "./notes.js";

const NAMES = { user: "You", assistant: "Answer", tool: "Result" };

/** `acts` has what the buttons do: {retry, edit, goOn, turn, look, answerCalls}. `siblings` are the
 * messages that stand at its place, `isLast` says that nothing stands below it. */
export function messageNode(message, { siblings, isLast, acts }) {
  const { role } = message;
  const body = role === "assistant" ? el("div", { class: "body" }) : el("div", { class: "body plain", dir: "auto" });
  const parts = role === "assistant" ? [thoughtNode(), body, el("div", { class: "calls" })] : [...fileNodes(message.files), body];
  const node = el("article", { class: `message ${role}`, "aria-label": NAMES[role] }, ...parts, el("p", { class: "note" }));
  drawInto(node, message);
  if (role === "assistant" && isLast && message.state === "done" && message.calls?.length) {
    node.append(resultsForm(message.calls, (results) => acts.answerCalls(message, results)));
  }
  node.append(actions(message, node, siblings, isLast, acts));
  return node;
}

/** Draws what a message holds by now. */
export function drawInto(node, message) {
  const isGrowing = message.state === "streaming";
  const body = node.querySelector(".body");
  node.classList.toggle("waiting", isGrowing);
  if (isGrowing) node.setAttribute("aria-busy", "true");
  else node.removeAttribute("aria-busy");
  if (message.role === "assistant") {
    render(body, message.content);
    drawThought(node.querySelector(".thought"), message, isGrowing);
    drawCalls(node.querySelector(".calls"), message.calls ?? []);
  } else {
    body.textContent = message.content;
    if (message.role === "tool") body.prepend(el("span", { class: "quiet-text" }, `Result of ${message.name}: `));
  }
  const note = node.querySelector(".note");
  note.textContent = noteOf(message);
  note.classList.toggle("error", message.state === "broken");
}

/** What the model thought: open while there is nothing else to read, then folded. */
function thoughtNode() {
  return el("details", { class: "thought" }, el("summary", {}), el("div", { class: "plain", dir: "auto", tabindex: 0 }));
}

function drawThought(node, message, isGrowing) {
  const isThinking = isGrowing && message.content === "";
  node.hidden = !message.thought;
  node.firstChild.textContent = isThinking ? "Thinking…" : "Thought";
  if (node.lastChild.textContent !== message.thought) node.lastChild.textContent = message.thought ?? "";
  if (isThinking !== node.isThinking) node.open = isThinking;
  node.isThinking = isThinking;
}

function drawCalls(node, calls) {
  const shown = JSON.stringify(calls);
  if (node.shown !== shown) node.replaceChildren(...callNodes(calls));
  node.shown = shown;
}

function actions(message, node, siblings, isLast, acts) {
  const button = (label, act, name) => el("button", { type: "button", class: "quiet", "aria-label": name, onclick: act }, label);
  const own = {
    user: () => [button("Edit", () => acts.edit(message, node))],
    assistant: () => [
      button("Retry", () => acts.retry(message)),
      ...(isLast && canContinue(message) ? [button("Continue", () => acts.goOn(message))] : []),
    ],
    tool: () => [],
  }[message.role]();
  return el("div", { class: "actions" }, ...turner(message, siblings, button, acts),
    copyButton(() => copyOf(message), () => node.querySelector(message.content ? ".body" : ".calls, .body")), ...own, button("Look inside", () => acts.look(message)));
}

/** What was written; of an answer that only calls, the calls. */
function copyOf({ content, calls = [] }) {
  return content || calls.map(({ name, text }) => `${name}(${text})`).join("\n");
}

/** ‹ 2/3 › where there are several. */
function turner(message, siblings, button, acts) {
  if (siblings.length < 2) return [];
  const at = siblings.indexOf(message);
  const arrow = (sign, step, name) => {
    const node = button(sign, () => acts.turn(message, step), name);
    node.disabled = !siblings[at + step];
    return node;
  };
  return [arrow("‹", -1, "Earlier version"), el("span", { class: "turn" }, `${at + 1}/${siblings.length}`), arrow("›", 1, "Later version")];
}
