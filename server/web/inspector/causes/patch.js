// Patching: one token's stream in place of another's, before the chosen layer. A token is dragged onto another, or
// both are chosen from lists.
import { $, el, visible } from "../../dom.js";
import * as drag from "./drag.js";

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
  drag.mount(make);
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
