// The likeliest next tokens of two runs, a line each.
import { el, percent, visible } from "../../dom.js";

/** `titles`: of the tokens, of either run; `kind`: a class, "nothing" where the difference says nothing. */
export function comparison(base, changed, titles, kind = "") {
  const names = new Map([...base, ...changed].map((guess) => [guess.id, guess.token]));
  const shares = (guesses) => new Map(guesses.map((guess) => [guess.id, Math.exp(guess.logprob)]));
  const [before, after] = [shares(base), shares(changed)];
  const cell = (share) => el("td", {}, share === undefined ? "less" : percent(share));
  const rows = [...names].map(([id, token]) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, visible(token))), cell(before.get(id)), cell(after.get(id))));
  const head = titles.map((title) => el("th", { scope: "col" }, title));
  return el("table", { class: `cause-table ${kind}` }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
}
