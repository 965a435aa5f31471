// The row of tokens over the maps: who asks, who is looked at, how little each was expected.
import { $, el, visible } from "../dom.js";

const STEPS = { ArrowLeft: (i) => i - 1, ArrowRight: (i) => i + 1, Home: () => 0, End: (i, count) => count - 1 };

/** A button for each; `point(index or null)` and `pick(index)` hear of the pointer, the focus and the click. Arrow keys
 * step from one to the next. */
export function draw(tokens, answerAt, point, pick) {
  $("tokens").onkeydown = (event) => {
    const index = buttons().indexOf(document.activeElement);
    const next = STEPS[event.key]?.(index, tokens.length);
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    buttons()[next]?.focus();
  };
  $("tokens").replaceChildren(...tokens.map((token, index) => {
    const isAnswer = answerAt !== null && index >= answerAt;
    return el("button", {
      type: "button", class: isAnswer ? "token answer" : "token", title: `token ${index}: id ${token.id}`, "aria-pressed": "false",
      "data-index": index, onpointerenter: () => point(index), onfocus: () => point(index), onpointerleave: () => point(null),
      onclick: () => pick(index),
    }, visible(token.token));
  }));
}

export const buttons = () => [...$("tokens").children];

/** Shades each by `share(index)`, 0 to 1, of what the token `asking` looks at; what comes later is pale. */
export function shade(asking, picked, share) {
  buttons().forEach((button, i) => {
    const own = asking === null || i > asking ? 0 : share(i);
    button.style.setProperty("--share", `${Math.round(Math.sqrt(own) * 100)}%`);
    button.classList.toggle("unseen", asking !== null && i > asking);
    button.classList.toggle("asking", i === asking);
    button.setAttribute("aria-pressed", String(i === picked));
  });
}

/** Under each token but the first: how little it was expected, in nats. */
export function tellSurprise({ nats, rank }) {
  buttons().slice(1).forEach((button, i) => {
    button.append(el("small", { "aria-hidden": "true" }, nats[i].toFixed(1)));
    button.title += `; ${nats[i].toFixed(2)} nats of surprise, ${rank[i].toLocaleString("en")} tokens were likelier`;
  });
}
