// Edits as the server's `interventions` declare them, in words and back from a link. `from` is the page's own:
// which text a patch takes its numbers from, the one that is shown ("text") or the one beside it ("beside").

export const MAX_EDITS = 16; // the server's

const INDEX = { head: "head", neuron: "neuron" }; // the points that number a part
const POINTS = ["head", "neuron", "attn_out", "mlp_out"];
const isNumber = (value) => Number.isInteger(value) && value >= 0;

/** An edit with only what belongs there, or null if it is none: a link may hold anything. */
export function cleaned(edit) {
  if (!edit || typeof edit !== "object" || !isNumber(edit.layer)) return null;
  const { at, layer, set } = edit;
  if (at === "resid_pre" && set === "source") return cleanedPatch(edit);
  if (!POINTS.includes(at) || !["zero", "mean"].includes(set)) return null;
  const index = INDEX[at];
  if (!index) return { at, layer, set };
  return isNumber(edit[index]) ? { at, layer, [index]: edit[index], set } : null;
}

function cleanedPatch({ at, layer, set, positions, source_positions: sources, from }) {
  const isFine = [positions, sources].every((list) => Array.isArray(list) && list.length === 1 && isNumber(list[0]));
  return isFine ? { at, layer, set, positions, source_positions: sources, from: from === "beside" ? from : "text" } : null;
}

/** As the server has it. */
export function asked(edit) {
  const { from, ...rest } = edit;
  return rest;
}

/** What is edited: "head 0 of layer 16". `name(from, position)` names a token. */
export function part({ at, layer, head, neuron, positions, source_positions: sources, from }, name) {
  if (at === "resid_pre") return `${name(from, sources[0])} in place of ${name("text", positions[0])} before layer ${layer}`;
  if (at === "head") return `head ${head} of layer ${layer}`;
  if (at === "neuron") return `neuron ${neuron.toLocaleString("en")} of layer ${layer}`;
  return `the ${at === "attn_out" ? "attention" : "MLP"} of layer ${layer}`;
}

/** The same with what is done to it, as a sentence begins. */
export function told(edit, name) {
  if (edit.at === "resid_pre") return `With ${part(edit, name)}`;
  return edit.set === "zero" ? `Without ${part(edit, name)}` : `With ${part(edit, name)} at its mean over this text`;
}

export const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);
