// What the served model is, in words. It comes with the first look; until then nothing is claimed of it.
import { counted } from "./draw.js";

const NO_DESIGN = { norm: "", positions: "", windows: [], chunks: [], experts: null, state_layers: [], lone_mlps: [], kv_heads: [], rope_dims: [] };

export const UNKNOWN = { isKnown: false, design: NO_DESIGN, num_layers: 0, num_heads: 0, num_kv_heads: 0 };

export const NORMS = { rms_norm: "RMSNorm", layer_norm: "LayerNorm" };
export const POSITIONS = { rotary: "rotary positions", learned: "added positions", alibi: "ALiBi", none: "no positions" };

/** What a layer's tokens see besides the causal mask: the last so many, or those of their own stretch; null: all. */
export function bandOf({ design }, layer) {
  const [window, chunk] = [design.windows[layer], design.chunks[layer]];
  if (chunk) return { size: chunk, isChunk: true };
  return window ? { size: window, isChunk: false } : null;
}

/** Whether a layer has an MLP: in some models each is one thing alone. */
export const hasMlp = ({ design }, layer) => !design.lone_mlps.length || design.lone_mlps.includes(layer);

/** How many numbers of a head a layer turns. */
export const turnedOf = ({ design }, layer) => design.rope_dims[layer] ?? design.rope_dim;

/** How many numbers a head's query and key have; its value may have fewer. */
export const keySize = ({ design, head_dim: size }) => design.latent?.key_dim ?? size;

/** How many key/value heads there are in a layer: a number, or the least and the most of all layers. */
export function groupsOf({ design, num_kv_heads: count }) {
  const all = design.kv_heads.length ? design.kv_heads : [count];
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return least === most ? counted(most, "key/value head") : `${least} to ${most} key/value heads`;
}

export const isGrouped = ({ num_heads: heads, num_kv_heads: groups }) => groups > 0 && groups < heads;

export function mlpName({ design }) {
  if (design.experts) return `${design.experts.num_chosen} of ${design.experts.num_experts} experts a token`;
  return design.gated_mlp ? `gated MLP (${design.activation})` : `MLP (${design.activation})`;
}

/** So many of a model's layers, in words. */
export function amongLayers({ num_layers: all }, count) {
  return `${count === all ? "each" : count} of ${counted(all, "layer")}`;
}

/** One line: this model beside the one that texts describe. */
export function strip(model) {
  if (!model.isKnown) return "";
  const { design } = model;
  const where = amongLayers(model, model.num_layers - design.state_layers.length);
  const heads = isGrouped(model) ? `${model.num_heads} query heads on ${groupsOf(model)} in ${where}` : `${counted(model.num_heads, "head")} in ${where}`;
  const facts = [
    NORMS[design.norm], POSITIONS[design.positions], heads, design.latent && `keys and values made of a latent of ${design.latent.size} numbers`, design.qk_norm && "normed queries and keys",
    ...bandsOf(design), ...othersOf(design), mlpName(model), design.tensor_format && `weights as ${design.tensor_format}`,
  ];
  return `Here: ${facts.filter(Boolean).join(", ")}. The text describes GPT-3: LayerNorm, added positions, 96 heads in each of 96 layers, MLP (gelu).`;
}

function bandsOf({ windows, chunks }) {
  const told = (all, what) => {
    const sizes = [...new Set(all.filter(Boolean))].map((size) => size.toLocaleString("en"));
    return sizes.length ? `${what} of ${sizes.join(" or ")} tokens in ${counted(all.filter(Boolean).length, "layer")}` : "";
  };
  return [told(windows, "a window"), told(chunks, "stretches")];
}

/** How many layers keep a state in place of heads. */
export const statesOf = ({ state_layers: headless, lone_mlps: alone }) => headless.length - alone.length;

/** What layers have in place of heads, or beside them. */
function othersOf(design) {
  const { lone_mlps: alone, state_beside: isBeside } = design;
  const states = statesOf(design);
  return [
    states > 0 && `a state in place of heads in ${counted(states, "layer")}`, isBeside && "a state beside the heads",
    alone.length && `an MLP alone in ${counted(alone.length, "layer")}, and none in the others`,
  ];
}
