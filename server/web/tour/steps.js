// The sixteen steps, in order. Each is data and two functions:
//   title, at (parts of the map), controls (what the reader may choose, see chosen.js), text, formula, fold (of the model)
//   ask(tour) -> what the server tells of it;  draw(that, tour) -> {node, caption, alt}, alt for who cannot see the picture
import { heads } from "./attention/kinds.js";
import { mask } from "./attention/mask.js";
import { off } from "./attention/off.js";
import { pairs } from "./attention/pairs.js";
import { qkv } from "./attention/qkv.js";
import { weights } from "./attention/softmax.js";
import { values } from "./attention/values.js";
import { layers } from "./block/layers.js";
import { mlp } from "./block/mlp.js";
import { norm } from "./block/norm.js";
import { streamSum } from "./block/sum.js";
import { embeddings } from "./input/embeddings.js";
import { position } from "./input/position.js";
import { tokens } from "./input/tokens.js";
import { cause } from "./output/cause.js";
import { next } from "./output/next.js";

export const STEPS = [
  tokens, embeddings, position, pairs, qkv, mask, weights, values, heads, off, norm, mlp, streamSum, layers, next, cause,
];
