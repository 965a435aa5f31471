// What the served model is, in words. It comes with the first look; until then nothing is claimed of it.
import { counted } from "./draw.js";

const NO_DESIGN = { norm: "", positions: "", windows: [], experts: null, state_layers: [], kv_heads: [], rope_dims: [] };

export const UNKNOWN = { isKnown: false, design: NO_DESIGN, num_layers: 0, num_heads: 0, num_kv_heads: 0 };

export const NORMS = { rms_norm: "RMSNorm", layer_norm: "LayerNorm" };
export const POSITIONS = { rotary: "rotary positions", learned: "added positions", alibi: "ALiBi", none: "no positions" };

/** The window of a layer, if it has one. */
export const windowOf = ({ design }, layer) => design.windows[layer] ?? null;

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

/** One line: this model beside the one that texts describe. */
export function strip(model) {
  if (!model.isKnown) return "";
  const { design } = model;
  const heads = isGrouped(model)
    ? `${model.num_heads} query heads on ${groupsOf(model)} in each of ${counted(model.num_layers, "layer")}`
    : `${counted(model.num_heads, "head")} in each of ${counted(model.num_layers, "layer")}`;
  const facts = [
    NORMS[design.norm], POSITIONS[design.positions], heads, design.latent && `keys and values made of a latent of ${design.latent.size} numbers`, design.qk_norm && "normed queries and keys",
    windowsOf(design), design.state_layers.length && `a state in place of heads in ${counted(design.state_layers.length, "layer")}`, mlpName(model), design.tensor_format && `weights as ${design.tensor_format}`,
  ];
  return `Here: ${facts.filter(Boolean).join(", ")}. The text describes GPT-3: LayerNorm, added positions, 96 heads in each of 96 layers, MLP (gelu).`;
}

function windowsOf({ windows }) {
  const sizes = [...new Set(windows.filter(Boolean))];
  return sizes.length ? `a window of ${sizes.join(" or ")} tokens in ${counted(windows.filter(Boolean).length, "layer")}` : "";
}
