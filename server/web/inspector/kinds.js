// What a head does with random tokens that are repeated: a habit that no text's meaning can explain.
import { server } from "../api.js";
import { percent } from "../dom.js";

const LEAST = 0.3; // of a head's weight, to be called by it
const PLACES = {
  previous_token: "the token before: it goes by position, not by meaning",
  duplicate_token: "an earlier copy of the same token",
  induction: "what stood behind an earlier copy of the token (an induction head)",
};

const known = new Map(); // model -> {kind: [layer][head]}

export const areKnown = () => known.has(server.model);

/** The server's `head_scores`. */
export const keep = (scores) => known.set(server.model, scores.kinds);

/** A sentence about a head, or nothing. */
export function told(layer, head) {
  const shares = Object.entries(known.get(server.model) ?? {}).map(([kind, scores]) => [scores[layer][head], kind]);
  const [share, kind] = shares.sort((a, b) => b[0] - a[0])[0] ?? [0, null];
  return share < LEAST ? "" : ` With random tokens ${percent(share)} of its weight goes to ${PLACES[kind]}.`;
}
