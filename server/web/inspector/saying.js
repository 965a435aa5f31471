// What the maps say, in one or two sentences: of a head, of a token that asks, of a pair of tokens.
import { percent } from "../dom.js";
import * as kinds from "./kinds.js";
import * as pattern from "./pattern.js";
import * as sink from "./sink.js";

/** `query` and `key` are what is pointed at, or null; `layers` those that are here, `of` the chosen one's pattern. */
export function says({ layers, tokens }, { layer, head }, of, query, key) {
  if (query === null) {
    return `Layer ${layer}, head ${head} ${pattern.habit(of, head)}.${kinds.told(layer, head)} Point at a token, or at the map, to see what it looks at; a click keeps it.`;
  }
  const sentence = pattern.sentence(sink.displayed(of), head, tokens, query, key);
  return `${sentence}${remark(layers, { layer, head }, of, query, key)}${sink.note()}`;
}

/** Of a pair, the head that looks there most; and whether that is for what the tokens say. */
function remark(layers, chosen, of, query, key) {
  const at = key ?? pattern.strongestKey(of, chosen.head, query);
  const isPrevious = (one) => kinds.kindOf(one.layer, one.head)?.kind === "previous_token" && at === query - 1;
  const position = " looks at the token before whatever it says (a previous-token head): that is position, not meaning.";
  if (key === null) return isPrevious(chosen) ? ` This head${position}` : "";
  if (key > query) return "";
  const most = pattern.strongest(layers.filter(Boolean), query, key);
  return ` Of all heads that are here layer ${most.layer}, head ${most.head} takes most from it, ${percent(most.share)}.${isPrevious(most) ? ` It${position}` : ""}`;
}
