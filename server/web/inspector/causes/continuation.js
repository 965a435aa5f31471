// How the text goes on with the changes and without, each by its own likeliest tokens.
import { el, visible } from "../../dom.js";

const NUM_TOKENS = 16;

/** A button, and what it brings: `ask(num)` gives the server's `continued`, or nothing if something else is asked by then;
 * `kind`: a class, "nothing" where the difference says nothing. */
export function continuation(ask, kind) {
  const out = el("dl", { class: `cause-continued ${kind}`, role: "status" });
  const row = (name, tokens) => [el("dt", {}, name), el("dd", {}, el("code", {}, visible(tokens.map(({ token }) => token).join(""))))];
  const button = el("button", { type: "button", onclick: async () => {
    const found = await ask(NUM_TOKENS);
    if (found) out.replaceChildren(...row("as it is", found.base), ...row("changed", found.changed));
  } }, "Let both go on");
  return el("div", {}, button, out);
}
