// The first token is where heads look that find nothing (an attention sink), and hides what else they do. It can be
// left out of the pictures: the rest of each row is rescaled, for display alone.
import { $, percent, visible } from "../dom.js";
import { weight } from "./pattern.js";

const LEAST = 0.01; // of a row: what is left of less is no picture of anything, and stays blank

export const isHidden = () => $("hide-first").checked;

const kept = new WeakMap(); // pattern -> the same without its first token

/** The pattern as it is to be drawn. */
export function displayed(pattern) {
  if (!isHidden()) return pattern;
  if (!kept.has(pattern)) kept.set(pattern, without(pattern));
  return kept.get(pattern);
}

function without({ values, size, heads }) {
  const left = new Float32Array(values.length);
  for (let row = 0; row < heads * size; row++) {
    const own = values.subarray(row * size, (row + 1) * size);
    const rest = own.reduce((sum, value) => sum + value, 0) - own[0];
    if (rest < LEAST) continue;
    for (let key = 1; key < size; key++) left[row * size + key] = own[key] / rest;
  }
  return { values: left, size, heads };
}

/** How much of all weight goes to the first token, in words; it has no choice itself, and does not count. */
export function tell(layers, tokens) {
  let [sum, count] = [0, 0];
  for (const { pattern } of layers) {
    for (let head = 0; head < (pattern?.heads ?? 0); head++) {
      for (let query = 1; query < pattern.size; query++, count++) sum += weight(pattern, head, query, 0);
    }
  }
  $("sink-says").textContent = count
    ? `Here the first token, “${visible(tokens[0].token)}”, gets ${percent(sum / count)} of all that the other tokens give: heads put there what they have no use for (an attention sink).`
    : "";
}

/** What a sentence adds while it is hidden. */
export const note = () => (isHidden() ? " The first token is hidden here and the rest rescaled to 100 %; the model is as it was." : "");
