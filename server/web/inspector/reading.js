// What is asked of /v1/inspect. A text's patterns grow with its square: where those of all layers would be
// too many for one answer, some layers come at once and the others when they are looked at.
import { post, server, stream } from "../api.js";

const MAX_TOKENS = 512; // the server's limits
const MAX_LENS_TOKENS = 128;
const MAX_BYTES = 30 * 2 ** 20; // of a stream; the server's is 32 MiB, and norms need some

const shapes = new Map(); // model -> {num_layers, num_heads}

/** Token ids of a text, or of a conversation as the model really sees it: through the chat template. With
 * the text of the latter, and where its last answer begins (null: there is none). */
export async function tokensOf({ text, ids, answerAt = null, messages }, signal) {
  if (ids) return { ids, text: text ?? (await json("/detokenize", { tokens: ids }, signal)).prompt, answerAt };
  if (!messages) return { ids: await tokenize({ prompt: text, add_special_tokens: false }, signal), text, answerAt: null };
  const isAnswer = messages.at(-1).role === "assistant";
  const whole = await tokenize({ messages, add_generation_prompt: !isAnswer, continue_final_message: isAnswer }, signal);
  const above = isAnswer && messages.length > 1 ? await tokenize({ messages: messages.slice(0, -1) }, signal) : null;
  const { prompt } = await json("/detokenize", { tokens: whole }, signal);
  return { ids: whole, text: prompt, answerAt: above && above.length };
}

async function tokenize(body, signal) {
  return (await json("/tokenize", body, signal)).tokens;
}

async function json(path, body, signal) {
  return (await post(path, { model: server.model, ...body }, signal)).json();
}

/** How much of a text of so many tokens can be shown: `{numTokens, layers}`, its last tokens and the layers
 * whose patterns come at once. */
export async function limits(numTokens, signal) {
  const { num_layers: numLayers, num_heads: numHeads, untold } = await shape(signal);
  const longest = Math.min(MAX_TOKENS, Math.floor(Math.sqrt(MAX_BYTES / (4 * numHeads))));
  const kept = Math.min(numTokens, longest);
  const count = Math.min(numLayers, Math.floor(MAX_BYTES / (4 * numHeads * kept ** 2)));
  const spread = Array.from({ length: count }, (_, i) => Math.round((i * (numLayers - 1)) / Math.max(1, count - 1)));
  return { numTokens: kept, layers: spread, hasAll: count === numLayers, untold };
}

/** Of the model: one token's norms cost next to nothing. */
async function shape(signal) {
  if (!shapes.has(server.model)) {
    const body = { prompt: "a", add_special_tokens: false, include: ["norms"], layers: [0], top_logprobs: 1 };
    shapes.set(server.model, await json("/v1/inspect", body, signal));
  }
  return shapes.get(server.model);
}

/** Events of a look at `ids`: of all layers, or the patterns of some. */
export async function* inspect(ids, options, signal) {
  const body = { model: server.model, prompt: ids, stream: true, encoding_format: "base64", ...options };
  yield* stream(await post("/v1/inspect", body, signal));
}

/** Of a token after the text: how many are likelier in each layer's guesses, and at last in the model's own. */
export async function ranksOf(ids, token, signal) {
  const body = { prompt: ids, include: [], lens_tokens: [token], top_logprobs: 1 };
  const { layers, lens_tokens: last } = await json("/v1/inspect", body, signal);
  return [...layers.map(({ lens_tokens: [[{ rank }]] }) => rank), last[0][0].rank];
}

export const lensPositions = (numTokens) => (numTokens <= MAX_LENS_TOKENS ? "all" : "last");
