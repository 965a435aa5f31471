// Copying, honestly: a page over plain HTTP has no clipboard, and then an older way is tried; if that is
// refused too, the text is selected and the button says which keys copy it.
import { el } from "./dom.js";

const keys = () => (/Mac|iPhone|iPad/.test(navigator.platform) ? "⌘C" : "Ctrl+C");

/** -> whether `text` is on the clipboard. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByCommand(text);
  }
}

function copiedByCommand(text) {
  const box = el("textarea", { class: "offscreen", "aria-hidden": "true" });
  const before = document.activeElement;
  box.value = text;
  document.body.append(box);
  box.select();
  let isDone = false;
  try {
    isDone = document.execCommand("copy");
  } catch {
    // Refused: as if it had said no.
  }
  box.remove();
  before?.focus?.();
  return isDone;
}

/** A button that copies `text()`; where that is impossible it selects `shown()`. */
export function copyButton(text, shown, name = "Copy") {
  const button = el("button", { type: "button", class: "quiet" }, name);
  button.addEventListener("click", async () => {
    const isDone = await copied(text());
    if (!isDone) getSelection().selectAllChildren(shown());
    button.textContent = isDone ? "Copied" : `Not copied: selected, press ${keys()}`;
    setTimeout(() => (button.textContent = name), isDone ? 1200 : 5000);
  });
  return button;
}
