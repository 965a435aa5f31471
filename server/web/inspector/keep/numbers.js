// All that is shown as JSON: an answer of /v1/inspect in one piece, which the Python client's `Inspection.read`
// takes too, and beside it what the reader has chosen and changed.
import { server } from "../../api.js";

const PATTERN_DIMS = ["layer", "head", "query_pos", "key_pos"];

export function numbers({ state, found, made: { edits, result } }) {
  const { start, end } = found;
  const layers = found.layers.map(({ pattern, ...layer }) => (pattern ? { ...layer, pattern: packed(pattern) } : layer));
  const changed = edits.length ? { edits, answer: result } : null;
  const { layer, head, token } = state;
  return JSON.stringify({
    ...start, ...end, object: "inspection", model: server.model, dims: { ...start.dims, pattern: PATTERN_DIMS }, layers,
    text: found.text, chosen: { layer, head, token }, changed,
  });
}

/** As the server packs an array: little-endian float32 in base64. */
function packed({ values, heads, size }) {
  const bytes = new Uint8Array(values.buffer);
  let letters = "";
  for (let at = 0; at < bytes.length; at += 0x8000) letters += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return { shape: [heads, size, size], dtype: "float32", data: btoa(letters) };
}
