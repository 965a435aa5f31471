// What the tour asks of the server: small looks, each for one step, kept until the text or the model changes.
import { post, server } from "../api.js";
import { unpack } from "../packed.js";

export const MAX_TOKENS = 32; // of the reader's text: more would be too small to be pointed at
const TRIES = 6; // while others look
const PAUSE = 500; // ms between them
const PACKED = ["pattern", "scores", "q", "k", "v", "q_normed", "k_normed", "rot_q", "rot_k", "value_norms", "norm_stats", "resid_pre", "resid_mid", "resid_post"];

const kept = new Map(); // what was asked -> the answer, of this text and model

export const forget = () => kept.clear();

/** POST, and the answer as JSON; what was asked before is not asked again. */
export async function ask(path, body, signal) {
  const key = JSON.stringify([path, server.model, body]);
  if (!kept.has(key)) kept.set(key, await patiently(() => post(path, { model: server.model, ...body }, signal), signal));
  return kept.get(key);
}

/** Of few seats one may be taken just now: it is asked again. */
async function patiently(send, signal) {
  for (let left = TRIES; ; left--) {
    try {
      return await (await send()).json();
    } catch (error) {
      if (error.status !== 429 || left <= 1) throw error;
      await new Promise((done) => setTimeout(done, PAUSE));
      signal.throwIfAborted();
    }
  }
}

/** A look at `prompt`, whose arrays are unpacked: {shape, values}; `at(layer)` finds a layer's. */
export async function inspect(prompt, options, signal) {
  const body = { prompt, include: [], layers: [0], top_logprobs: 1, encoding_format: "base64", ...options };
  const found = await ask("/v1/inspect", body, signal);
  found.layers.forEach(unpackAll);
  return Object.assign(found, { at: (layer) => found.layers.find((one) => one.layer === layer) });
}

function unpackAll(layer) {
  for (const name of PACKED) {
    if (layer[name]?.data !== undefined) layer[name] = unpack(layer[name]);
  }
}

/** The names of queries and keys right before they are turned. */
export const unturned = ({ untold }) => (untold.q_normed ? ["q", "k"] : ["q_normed", "k_normed"]);

/** Ids of a text, as the model reads it. */
export async function tokenize(text, signal) {
  const body = { prompt: text, add_special_tokens: false, return_token_strs: true };
  const { tokens, token_strs: names } = await ask("/tokenize", body, signal);
  return { ids: tokens, names };
}

/** The first token of a word: its id, and whether it is the whole word. */
export async function tokenOf(word, signal) {
  const { ids, names } = await tokenize(word, signal);
  return { id: ids[0], name: names[0], isWhole: ids.length === 1 };
}

export const vocabulary = (tokens, options, signal) => ask("/v1/inspect/vocabulary", { tokens, ...options }, signal);
