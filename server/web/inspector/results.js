// What stands under the maps: lens, next tokens, contributions and weights of the text that is shown.
import { $, percent, visible } from "../dom.js";
import * as charts from "./charts.js";

const LENS_HINT = "Point at a cell to read its likeliest guesses; a dot (·) in a token is a space.";
const SHARE_HINT = "Point at a layer to read its numbers.";

export function lens({ layers, start, end: last }) {
  $("lens").replaceChildren(charts.lens(layers, last.next_token, start.tokens, start.lens_positions, (says) => ($("lens-says").textContent = says)));
  $("lens-says").textContent = LENS_HINT;
}

/** `choose(guess)` goes on with one. */
export function nextTokens({ end }, choose) {
  $("next").replaceChildren(...charts.nextTokens(end.next_token.at(-1), choose));
}

/** To the stream of one token; null: of the last. */
export function contributions({ layers, start }, query) {
  const position = query ?? start.tokens.length - 1;
  const tell = (says) => ($("contributions-says").textContent = says);
  const { node, share } = charts.contributions(layers, position, tell);
  $("contributions").replaceChildren(node);
  tell(SHARE_HINT);
  $("contribution-of").textContent = `Of the lengths added to “${visible(start.tokens[position].token)}” attention has ${percent(share)}, the MLPs have ${percent(1 - share)}; click a token above for another.`;
}

export function parameters({ start }) {
  const { nodes, share, total } = charts.parameters(start.parameters);
  $("parameters").replaceChildren(...nodes);
  $("parameter-share").textContent = `${charts.millions(total)} weights. Of those inside the layers, attention has ${percent(share)}.`;
}
