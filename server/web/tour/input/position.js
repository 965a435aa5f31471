// Step 3: how the model knows where a token stands. By turning, by adding, or by distance alone.
import { el, svg } from "../../dom.js";
import { cosine, length, mean, row, scored, stretched, sum, turnedProduct, turns } from "../arithmetic.js";
import { counted, lines, number, slider, square } from "../draw.js";
import { unturned } from "../look.js";
import { keySize, statesOf, turnedOf } from "../model.js";

const MAX_DISTANCE = 64;

const TEXTS = {
  rotary: [
    "So far “dog bites man” and “man bites dog” are the same three rows. The model must be told the order.",
    "This one adds nothing to the rows. It turns: each pair of numbers of a query and of a key is the hand of a clock, and from one token to the next each hand turns by its own step, the first pairs fast, the last ones slowly.",
    "When a query meets a key, both are turned; what counts is the difference, that is, how far apart they stand. Move the slider: the score of this pair, if the query stood elsewhere.",
  ],
  learned: [
    "So far “dog bites man” and “man bites dog” are the same three rows. The model must be told the order.",
    "This one has a second table, with a row for each position, and adds it to the token's own. The picture shows how alike the rows of positions are: neighbours are close.",
  ],
  other: [
    "So far “dog bites man” and “man bites dog” are the same three rows. The model must be told the order.",
    "This one adds no row for the position and turns nothing in this layer.",
    "The picture shows how much of a layer's weight goes how far back.",
  ],
};

/** What tells such a model the order. */
function orderOf({ design }) {
  if (design.positions === "alibi") return "What tells it the order: scores that fall with the distance (ALiBi).";
  const mask = "the mask alone, by which the first token sees one token and the last one all";
  return `What tells it the order: ${statesOf(design) > 0 ? `layers that keep a state, which read one token after the other, and in this one ${mask}` : mask}.`;
}

function textsOf(model) {
  const [first, second, last] = TEXTS[kindOf(model)];
  return kindOf(model) === "other" ? [first, `${second} ${orderOf(model)}`, last] : TEXTS[kindOf(model)];
}

const kindOf = ({ design }) => (TEXTS[design.positions] ? design.positions : "other");

export const position = {
  title: "Position",
  at: ["position"],
  controls: ["layer", "head", "query", "key"],
  text: (model) => (model.isKnown ? textsOf(model) : TEXTS.rotary),
  formula: (model) => [{
    rotary: { tex: String.raw`(R_m q) \cdot (R_n k) = q \cdot R_{n-m} \, k`, says: "A query turned by its position m, times a key turned by its position n, depends on n − m alone." },
    learned: { tex: String.raw`x_m = E_{t_m} + P_m`, says: "A token's row of the one table plus its position's row of the other." },
    other: { tex: String.raw`s_{mn} = \frac{q_m \cdot k_n}{\sqrt{d}} - a\,(m - n)`, says: "With ALiBi a score falls by the slope a for each token between; a is 0 in a model without positions." },
  }[model.isKnown ? kindOf(model) : "rotary"]],
  fold: (model) => ({
    says: "A vector for the position is added to the word's embedding.",
    is: [
      "In GPT-2 and GPT-3, yes, a learned one. Most newer models turn queries and keys instead, in every layer (rotary positions): the table of embeddings is left alone, values are not turned, and only the distance counts.",
      model.isKnown ? `This model: ${{ rotary: model.design.rope_dims.length ? "rotary, in some layers more numbers of a head turn than in others" : `rotary, ${model.design.rope_dim} of ${keySize(model)} numbers of a head turn`, learned: "a learned row is added", alibi: "scores fall with the distance (ALiBi)", none: "no positions at all" }[model.design.positions]}.` : "",
    ].filter(Boolean),
  }),

  async ask({ model, chosen, look, ids }) {
    const kind = kindOf(model);
    if (kind === "learned") {
      const edit = { at: "embed", layer: 0, set: "zero" }; // then only positions are left
      return { kind, at: (await look({ include: ["resid_pre"], interventions: [edit], noise: 2 })).at(0) };
    }
    const options = { layers: [chosen.layer], heads: [chosen.head] };
    if (kind === "rotary") {
      const names = unturned(model);
      const include = [...names, "rot_q", "rot_k", "scores"];
      const positions = [...new Set([1, chosen.query, chosen.key])].filter((place) => place < ids.length);
      const found = await look({ ...options, include, positions });
      const at = found.at(chosen.layer);
      const before = names.map((name) => at[name]);
      if (ids.length > 1 && isTurned(before, at.rot_q)) return { kind, at, before, positions };
    }
    return { kind: "other", at: (await look({ ...options, include: ["pattern"] })).at(chosen.layer) };
  },

  draw(found, tour) {
    return { rotary: drawClocks, learned: drawAdded, other: drawDistances }[found.kind](found, tour);
  },
};

/** Whether this layer turns, and has keys of its own to show that with. */
const isTurned = ([q, k], turned) => k.shape[0] > 0 && q.values.some((value, i) => Math.abs(value - turned.values[i]) > 1e-6);

function drawClocks({ at: { rot_q: turned, rot_k: turnedKeys, scores }, before: [q, k], positions }, { chosen, model, name }) {
  const at = (place) => positions.indexOf(place);
  const dim = turnedOf(model, chosen.layer);
  const frequencies = turns(row(q, 0, at(1)), row(turned, 0, at(1)), 1, dim);
  const query = stretched(row(q, 0, at(chosen.query)), row(turned, 0, at(chosen.query)), dim);
  const key = stretched(row(k, 0, at(chosen.key)), row(turnedKeys, 0, at(chosen.key)), dim);
  const own = chosen.query - chosen.key;
  const told = row(scores, 0, at(chosen.query))[chosen.key];
  const score = (distance) => scored(turnedProduct(query, key, frequencies, distance), model.design);
  const curve = Array.from({ length: MAX_DISTANCE + 1 }, (_, distance) => score(distance));
  const picture = el("div", {});
  const says = el("p", { class: "tour-caption", role: "status" });
  const move = (distance) => {
    picture.replaceChildren(clocks(frequencies, distance),
      lines([{ name: "score at this distance", kind: "attention", values: curve }], { label: "Score by distance", across: ["0 tokens apart", `${MAX_DISTANCE} tokens apart`], mark: distance }));
    says.textContent = `${distance} apart: the first hand has turned ${number((frequencies[0] * distance) / (2 * Math.PI))} times, the last ${number((frequencies.at(-1) * distance) / (2 * Math.PI))}; the score would be ${number(score(distance))}.`;
  };
  move(own);
  const words = `${name(chosen.query)} and ${name(chosen.key)} stand ${own} apart, and their score is ${number(told)}.`;
  return {
    node: el("div", {}, slider("Distance", { min: 0, max: MAX_DISTANCE, step: 1, value: own, text: (value) => counted(value, "token") }, move), picture, says),
    caption: words,
    alt: `${frequencies.length} hands of clocks, one for each pair of numbers. From one token to the next the first turns by ${number(frequencies[0])} radians, the last by ${number(frequencies.at(-1))}. ${words} At distance 0 it would be ${number(score(0))}, at ${MAX_DISTANCE} ${number(score(MAX_DISTANCE))}.`,
  };
}

function clocks(frequencies, distance) {
  const [columns, unit] = [Math.min(16, frequencies.length), 26];
  const picture = svg("svg", { class: "tour-clocks", viewBox: `0 0 ${columns * unit} ${Math.ceil(frequencies.length / columns) * unit}`, "aria-hidden": "true" });
  frequencies.forEach((frequency, i) => {
    const [x, y, r] = [((i % columns) + 0.5) * unit, (Math.floor(i / columns) + 0.5) * unit, unit / 2 - 3];
    const angle = frequency * distance;
    picture.append(svg("circle", { cx: x, cy: y, r }), svg("line", { x1: x, y1: y, x2: x + r * Math.sin(angle), y2: y - r * Math.cos(angle) }));
  });
  return picture;
}

function drawAdded({ at: { resid_pre: rows } }, { tokens, name }) {
  const vectors = tokens.map((_, place) => row(rows, place));
  const lengths = vectors.map(length);
  const cell = (a, b) => {
    const value = cosine(vectors[a], vectors[b]) || 0;
    return { value, text: `positions ${a} and ${b}: ${number(value)}` };
  };
  const says = el("p", { class: "tour-caption", role: "status" });
  const numbered = tokens.map((_, place) => ({ token: String(place) }));
  const { node } = square({ tokens: numbered, cell, label: "How alike the rows of positions are", tell: (a, b) => (says.textContent = `The rows of positions ${a} and ${b} have a cosine of ${cell(a, b).text.split(": ")[1]}.`) });
  const near = vectors.length > 1 ? ` Rows 0 and 1 have a cosine of ${number(cosine(vectors[0], vectors[1]))}.` : "";
  const words = `To ${name(tokens.length - 1)}, at position ${tokens.length - 1}, a row of length ${number(lengths.at(-1))} is added.${near}`;
  return { node: el("div", {}, node, says), caption: words, alt: `A square of cosines between the rows of positions. ${words} Their lengths: ${lengths.map((one) => number(one)).join(", ")}.` };
}

function drawDistances({ at: { pattern } }, { tokens, chosen }) {
  const values = tokens.map((_, distance) => {
    const rows = tokens.map((__, query) => query).filter((query) => query >= distance);
    return sum(rows.map((query) => row(pattern, 0, query)[query - distance])) / rows.length;
  });
  const middle = mean(tokens.map((_, query) => sum(tokens.slice(0, query + 1).map((__, key) => row(pattern, 0, query)[key] * (query - key)))));
  const words = `Layer ${chosen.layer}, head ${chosen.head} gives ${number(values[0] * 100)} % of a token's weight to the token itself; it looks ${number(middle)} tokens back on average.`;
  return { node: lines([{ name: "mean weight", kind: "attention", values }], { label: "Mean weight by distance", across: ["the token itself", `${tokens.length - 1} back`] }), caption: words, alt: words };
}
