// What stands under the maps: lens, next tokens, contributions and weights of the text that is shown.
import { $, percent, visible } from "../dom.js";
import * as charts from "./charts.js";

const LENS_HINT = "Point at a cell to read its likeliest guesses; a dot (·) in a token is a space.";
const SHARE_HINT = "Point at a layer to read its numbers.";

export function lens({ layers, start, end: last }) {
  $("lens").replaceChildren(charts.lens(layers, last.next_token, start.tokens, start.lens_positions, (says) => ($("lens-says").textContent = says)));
  $("lens-says").textContent = LENS_HINT;
  $("lens-rank").textContent = "";
}

/** Where the model's answer stands in the guesses of each layer. */
export function ranks({ layers, start, end, ranks: found }) {
  const answer = visible(end.next_token.at(-1)[0].token);
  const after = visible(start.tokens.at(-1).token);
  charts.addRanks($("lens").firstChild, found, answer, after, (says) => ($("lens-says").textContent = says));
  const place = (rank) => `no. ${(rank + 1).toLocaleString("en")}`;
  const settled = 1 + found.findLastIndex((rank) => rank >= charts.EARLY);
  const from = settled < layers.length ? `It stays among the first ${charts.EARLY} from layer ${settled} on` : `Only the whole model has it among the first ${charts.EARLY}`;
  $("lens-rank").textContent = `The answer “${answer}” is ${place(found[0])} of the guesses before layer 0, ${place(found.at(-2))} before the last layer, ${place(found.at(-1))} at the output. ${from}: what is said before that of the last token is read with a tool made for the last layer, and is grey.`;
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
