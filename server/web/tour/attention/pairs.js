// Step 4: every token is held against every other.
import { el } from "../../dom.js";
import { row, sees } from "../arithmetic.js";
import { number, square } from "../draw.js";
import { bandOf } from "../model.js";

export const pairs = {
  title: "All pairs",
  at: ["scores"],
  controls: ["layer", "head"],
  text: () => [
    "Attention begins with a question that each token puts to each other: how much do you concern me? The answer is one number, a score.",
    "Rows ask, columns are asked. Blue is above zero, orange below. A score belongs to a pair, in one direction: what this token wants of that one.",
    "The grayed half are tokens that come later. The server computes them for this picture alone: nobody will use them, and a model that answers never computes them.",
  ],
  formula: () => [{
    tex: String.raw`s_{mn} = \frac{q_m \cdot k_n}{\sqrt{d_{head}}}`,
    says: "The product of the query of token m and the key of token n, divided by the square root of how many numbers they have: else long vectors would make every choice extreme.",
  }],
  fold: () => ({
    says: "Each word gets a score for how related it is.",
    is: [
      "Not each word: each pair, and each direction of it. The score of “noodles” asking “fried” is another than that of “fried” asking “noodles”.",
      "And it is divided by the square root of a head's width before anything else happens, which is often left out.",
    ],
  }),

  ask: async ({ chosen, look }) =>
    (await look({ include: ["scores"], layers: [chosen.layer], heads: [chosen.head], masked_scores: true })).at(chosen.layer),

  draw({ scores }, { tokens, chosen, model, name, tell }) {
    const band = bandOf(model, chosen.layer);
    const seen = tokens.flatMap((_, query) => tokens.map((__, key) => [query, key]).filter(([, key]) => sees(query, key, band)));
    const score = (query, key) => row(scores, 0, query)[key];
    const most = Math.max(1e-9, ...Array.from(scores.values, Math.abs));
    const says = (query, key) => `${name(query)} asks ${name(key)}: score ${number(score(query, key))}${sees(query, key, band) ? "" : ", which the mask takes away"}.`;
    const { node } = square({
      tokens, label: `Scores of ${tokens.length} tokens, rows ask, columns are asked. Arrow keys move.`, marked: [chosen.query, chosen.key],
      tell: (query, key) => tell(says(query, key)),
      cell: (query, key) => ({ value: score(query, key) / most, isHidden: !sees(query, key, band), text: says(query, key) }),
    });
    const [low, high] = [Math.min, Math.max].map((pick) => pick(...seen.map(([query, key]) => score(query, key))));
    const words = `${tokens.length} × ${tokens.length} scores of layer ${chosen.layer}, head ${chosen.head}; those that count lie between ${number(low)} and ${number(high)}. ${says(chosen.query, chosen.key)}`;
    const line = tokens.map((_, key) => `${name(key)} ${number(score(chosen.query, key))}`).join(", ");
    return { node: el("div", {}, node), caption: words, alt: `${words} The row of ${name(chosen.query)}: ${line}.` };
  },
};
