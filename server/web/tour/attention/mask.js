// Step 6: no token looks at what comes later.
import { el } from "../../dom.js";
import { beside, row, sees, sinkOf, sum } from "../arithmetic.js";
import { choice, number, share, square } from "../draw.js";
import { bandOf } from "../model.js";

export const mask = {
  title: "The mask",
  at: ["mask"],
  controls: ["layer", "head"],
  text: (model) => [
    "A model that writes from left to right must not see what it is to guess. So before the scores become weights, those of all later tokens are set to minus infinity: they will weigh nothing.",
    "Lift the mask and see where the weight would have gone. The model never runs so; the page computes it for this picture, from the scores of step 4.",
    model.design.windows.length ? "Some layers of this model have a window as well: what lies too far back is taken away too, and a band is left." : "",
    model.design.chunks.length ? "In some layers of this model texts are cut into stretches of one length: a token sees those of its own stretch alone, up to itself." : "",
  ].filter(Boolean),
  formula: ({ design }) => [{
    tex: [
      String.raw`s_{mn} = -\infty \quad \text{for } n > m`, design.windows.length && String.raw`\text{, and for } m - n \ge w`,
      design.chunks.length && String.raw`\text{, and for } \lfloor n / c \rfloor < \lfloor m / c \rfloor`,
    ].filter(Boolean).join(" "),
    says: "The exponential of minus infinity is 0: such a pair gets no weight.",
  }],
  fold: () => ({
    says: "Tokens only look forwards; the upper half of the table is kept.",
    is: [
      "Each token looks back, at itself and at what stood before it. It is influence that runs forwards.",
      "Which half is kept depends on how the table is drawn. Here rows ask, so the lower half is kept and each row adds up to 100 %. Drawn with the askers across, as in some films, it is the upper half, and columns add up. “Turn the table” shows that.",
      "The mask is not for training alone. Because no token depends on a later one, keys and values of a text stay what they are when it grows: that is why a server can keep them (the KV cache).",
    ],
  }),

  ask: async ({ chosen, look }) =>
    (await look({ include: ["scores", "pattern"], layers: [chosen.layer], heads: [chosen.head], masked_scores: true })).at(chosen.layer),

  draw({ scores, pattern }, { tokens, chosen, model, name, tell }) {
    const band = bandOf(model, chosen.layer);
    const free = tokens.map((_, query) => { // beside what a sink takes, where there is one
      const [own, given] = [Array.from(row(scores, 0, query)), row(pattern, 0, query)];
      return beside(sinkOf(own.filter((__, key) => sees(query, key, band)), given), own);
    });
    const weight = (isMasked, query, key) => (isMasked ? row(pattern, 0, query)[key] : free[query][key]);
    const shown = { isMasked: true, isTurned: false };
    const frame = el("div", {});
    const redraw = () => {
      const { isMasked, isTurned } = shown;
      const says = (query, key) => `${name(query)} ${isMasked && !sees(query, key, band) ? `cannot see ${name(key)}` : `gives ${share(weight(isMasked, query, key))} to ${name(key)}`}.`;
      frame.replaceChildren(square({
        tokens, isTurned, marked: [chosen.query, chosen.key], tell: (query, key) => tell(says(query, key)),
        label: `Weights ${isMasked ? "with" : "without"} the mask, ${isTurned ? "columns" : "rows"} ask. Arrow keys move.`,
        cell: (query, key) => ({ value: Math.sqrt(weight(isMasked, query, key)), isHidden: isMasked && !sees(query, key, band), text: says(query, key) }),
      }).node);
    };
    redraw();
    const hidden = tokens.flatMap((_, query) => tokens.map((__, key) => [query, key])).filter(([query, key]) => !sees(query, key, band)).length;
    const later = sum(tokens.map((_, query) => sum(free[query].filter((__, key) => key > query)))) / tokens.length;
    const words = `The mask takes away ${hidden} of ${tokens.length ** 2} scores${band ? `, with those ${band.isChunk ? `of other stretches of ${band.size} tokens` : `that lie ${band.size} tokens back or more`}` : ""}. Without it, ${share(later)} of this head's weight would lie on tokens that come later.`;
    const first = `${name(0)} can see itself alone and gives it ${share(row(pattern, 0, 0)[0])}.`;
    return {
      node: el("div", {}, el("div", { class: "tour-controls" },
        choice("Mask", [[true, "with the mask"], [false, "without"]], true, (value) => { shown.isMasked = value; redraw(); }),
        choice("Table", [[false, "rows ask"], [true, "turn the table"]], false, (value) => { shown.isTurned = value; redraw(); })), frame),
      caption: words,
      alt: `A square of weights, its ${band ? (band.isChunk ? "triangles along the diagonal" : "band along the diagonal") : "lower half"} filled. ${words} ${first} The first row's score was ${number(row(scores, 0, 0)[0])}.`,
    };
  },
};
