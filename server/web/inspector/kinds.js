// What a head does with random tokens that are repeated: a habit that no text's meaning can explain.
import { server } from "../api.js";
import { percent } from "../dom.js";

const LEAST = 0.3; // of a head's weight, to be called by it
const KINDS = {
  previous_token: { name: "previous token", place: "the token before: it goes by position, not by meaning" },
  duplicate_token: { name: "duplicate token", place: "an earlier copy of the same token" },
  induction: { name: "induction", place: "what stood behind an earlier copy of the token (an induction head)" },
};
export const NAMES = Object.entries(KINDS).map(([kind, { name }]) => [kind, name]);

const known = new Map(); // model -> {kind: [layer][head]}

export const areKnown = () => known.has(server.model);

/** The server's `head_scores`. */
export const keep = (scores) => known.set(server.model, scores.kinds);

/** What a head is called by: {kind, name, share}, or null. */
export function kindOf(layer, head) {
  const shares = Object.entries(known.get(server.model) ?? {}).map(([kind, scores]) => ({ kind, share: scores[layer]?.[head] ?? 0 }));
  const [most] = shares.sort((a, b) => b.share - a.share);
  return !most || most.share < LEAST ? null : { ...most, name: KINDS[most.kind].name };
}

/** Every head with its share of a kind, the largest first: [{layer, head, share}]. */
export function ranked(kind) {
  const scores = known.get(server.model)?.[kind] ?? [];
  return scores.flatMap((heads, layer) => heads.map((share, head) => ({ layer, head, share: share ?? 0 }))).sort((a, b) => b.share - a.share);
}

/** A sentence about a head, or nothing. */
export function told(layer, head) {
  const found = kindOf(layer, head);
  return found ? ` With random tokens ${percent(found.share)} of its weight goes to ${KINDS[found.kind].place}.` : "";
}
