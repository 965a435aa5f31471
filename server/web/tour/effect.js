// What came of an intervention: the next token before and after, and what rounding alone would do.
import { el, visible } from "../dom.js";
import { number, share, table } from "./draw.js";

/** Whether it is more than rounding does. */
const isAbove = ({ changed, noise }) => changed.kl > noise.kl_max;

/** In words: how far the next token moved, and whether that is more than rounding. */
export function effect({ changed, noise }) {
  const size = `the next token moves by ${number(changed.kl)} nats`;
  return isAbove({ changed, noise })
    ? `${size}; rounding alone moves it by ${number(noise.kl_max)} at most.`
    : `${size}: no more than rounding alone does (${number(noise.kl_max)}), so this says nothing.`;
}

/** The likeliest tokens of either run, gray if they say nothing. */
export function shifted(found) {
  const { base_next_token: [base], next_token: [changed] } = found;
  const shares = (guesses) => new Map(guesses.map(({ id, logprob }) => [id, Math.exp(logprob)]));
  const [before, after] = [shares(base), shares(changed)];
  const names = new Map([...base, ...changed].map(({ id, token }) => [id, token]));
  const cell = (value) => (value === undefined ? "less" : share(value));
  const rows = [...names].map(([id, token]) => [el("code", {}, visible(token)), cell(before.get(id)), cell(after.get(id))]);
  const node = table(["next token", "as it is", "changed"], rows, "The next token, as it is and changed");
  node.classList.toggle("nothing", !isAbove(found));
  return node;
}
