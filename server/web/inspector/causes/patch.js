// Patching: one token's stream in place of another's, before the chosen layer. A token is dragged onto another, or
// both are chosen from lists.
import { $, el, visible } from "../../dom.js";

const DRAG = 6; // pixels: less is a click

/** `shown`: `tokens(from)` of a text ("text" or "beside"), `layer()`, `make(edit)`. */
export function mount(shown) {
  const make = (from, source, target) => shown.make({
    at: "resid_pre", layer: shown.layer(), set: "source", positions: [target], source_positions: [source], from,
  });
  $("patch-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const [from, index] = $("patch-from").value.split("/");
    make(from, Number(index), Number($("patch-to").value));
  });
  drags(make);
}

/** The lists, for the texts that are there. */
export function offer(own, other) {
  const [from, to] = [$("patch-from").value, $("patch-to").value];
  const options = (tokens, name, prefix) => tokens.map(({ token }, i) => el("option", { value: `${prefix}${i}` }, `${i}: ${visible(token)}${name}`));
  $("patch-from").replaceChildren(...options(own, "", "text/"), ...options(other, " (the other text)", "beside/"));
  $("patch-to").replaceChildren(...options(own, "", ""));
  $("patch-from").value = from;
  $("patch-to").value = to;
  if (!$("patch-from").value) $("patch-from").selectedIndex = 0;
  if (!$("patch-to").value) $("patch-to").selectedIndex = own.length - 1;
}

/** By mouse or pen; a finger scrolls the page, and has the lists. */
function drags(make) {
  let start = null; // {node, x, y}, from the press on
  let target = null;
  const tokenAt = (node) => node?.closest?.("#tokens [data-index], .beside-tokens [data-index]");
  const fromOf = (node) => node.dataset.from ?? "text";
  const onto = (node) => {
    target?.classList.remove("drop");
    target = node;
    target?.classList.add("drop");
  };
  const end = () => {
    start?.node.classList.remove("dragged");
    start = null;
    onto(null);
  };
  $("inspection").addEventListener("pointerdown", (event) => {
    const node = tokenAt(event.target);
    if (node && event.pointerType !== "touch" && event.button === 0) start = { node, x: event.clientX, y: event.clientY };
  });
  addEventListener("pointermove", (event) => {
    if (!start || Math.hypot(event.clientX - start.x, event.clientY - start.y) < DRAG) return;
    start.node.classList.add("dragged");
    const over = tokenAt(document.elementFromPoint(event.clientX, event.clientY));
    onto(over && over !== start.node && fromOf(over) === "text" ? over : null);
  });
  addEventListener("pointerup", () => {
    if (start && target) make(fromOf(start.node), Number(start.node.dataset.index), Number(target.dataset.index));
    end();
  });
  addEventListener("pointercancel", end);
  addEventListener("keydown", (event) => event.key === "Escape" && end());
}
