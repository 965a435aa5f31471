// The tour's own arithmetic. What a caption says is computed from the server's numbers by these functions,
// and tests hold them against the server's own results.

/** The last dimension at some place of the ones before: row(scores, head, query) -> Float32Array. */
export function row({ shape, values }, ...at) {
  const width = shape.at(-1);
  const index = at.reduce((sum, place, i) => sum * shape[i] + place, 0);
  return values.subarray(index * width, (index + 1) * width);
}

/** Of a row of scores, at a temperature; -Infinity weighs nothing. */
export function softmax(scores, temperature = 1) {
  const most = Math.max(...scores);
  const weights = Array.from(scores, (score) => Math.exp((score - most) / temperature));
  const total = sum(weights);
  return weights.map((weight) => weight / total);
}

/** The score of a head's own sink, which takes what a row of weights leaves; -Infinity: there is none. */
export function sinkOf(scores, weights) {
  const given = sum(weights);
  if (given > 1 - 1e-5) return -Infinity;
  const most = Math.max(...scores);
  return most + Math.log(sum(scores.map((score) => Math.exp(score - most)))) + Math.log((1 - given) / given);
}

/** What is left of a softmax beside a sink. */
export const beside = (sink, scores, temperature = 1) => softmax([...scores, sink], temperature).slice(0, -1);

/** A product of a query and a key as a score: divided, and capped where this model caps. */
export function scored(product, { score_divisor: divisor, score_softcap: cap }) {
  return cap ? cap * Math.tanh(product / divisor / cap) : product / divisor;
}

export const sum = (values) => Array.from(values).reduce((total, value) => total + value, 0);
export const mean = (values) => sum(values) / values.length;
export const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
export const length = (x) => Math.sqrt(dot(x, x));
export const cosine = (a, b) => dot(a, b) / (length(a) * length(b));

/** What a norm looks at, over the numbers of one token: mean, root mean square, standard deviation. */
export function stats(x) {
  const middle = mean(x);
  const rms = Math.sqrt(mean(Array.from(x, (value) => value ** 2)));
  const std = Math.sqrt(mean(Array.from(x, (value) => (value - middle) ** 2)));
  return { mean: middle, rms, std };
}

export function rmsNorm(x, eps = 0) {
  const divisor = Math.sqrt(stats(x).rms ** 2 + eps);
  return Array.from(x, (value) => value / divisor);
}

export function layerNorm(x, eps = 0) {
  const { mean: middle, std } = stats(x);
  return Array.from(x, (value) => (value - middle) / Math.sqrt(std ** 2 + eps));
}

/** Whether a query sees a key: not what comes later, nor what has left a window, nor what is of a stretch before.
 * `band`: {size, isChunk} or null. */
export function sees(query, key, band) {
  if (key > query || !band) return key <= query;
  return band.isChunk ? Math.floor(key / band.size) === Math.floor(query / band.size) : query - key < band.size;
}

/** How far each pair of channels turns from one token to the next: measured on a vector before and after. */
export function turns(before, after, position, dim) {
  const half = dim / 2;
  return Array.from({ length: half }, (_, i) => {
    const [from, to] = [before, after].map((x) => Math.atan2(x[i + half], x[i]));
    const turn = (to - from + 4 * Math.PI) % (2 * Math.PI);
    return (turn > Math.PI ? turn - 2 * Math.PI : turn) / position;
  });
}

/** A vector before it is turned, as long in what turns as it is behind: some models stretch it. */
export function stretched(before, after, dim) {
  const factor = length(after.subarray(0, dim)) / length(before.subarray(0, dim));
  return before.map((value, i) => (i < dim ? value * factor : value));
}

/** A query's product with a key that stands `distance` before it: pairs turn by their frequencies, the rest stays. */
export function turnedProduct(query, key, frequencies, distance) {
  const half = frequencies.length;
  let total = 0;
  for (let i = 0; i < half; i++) {
    const angle = frequencies[i] * distance;
    const along = query[i] * key[i] + query[i + half] * key[i + half];
    const across = query[i + half] * key[i] - query[i] * key[i + half];
    total += along * Math.cos(angle) - across * Math.sin(angle);
  }
  for (let i = 2 * half; i < query.length; i++) total += query[i] * key[i];
  return total;
}
