// Step 14: layer by layer the guess takes shape.
import { el, visible } from "../../dom.js";
import { lines, quoted, share, table } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";

const whole = (value) => value.toLocaleString("en");
const TRUSTED = 100; // the rank of the answer above which a guess is drawn gray

export const layers = {
  title: "Layers",
  at: ["layers", "stream"],
  text: (model) => [
    `All of this is one layer${model.isKnown ? `, and there are ${model.num_layers}` : ""}: ${model.design.state_layers.length ? "of more than one shape here, as the line below counts them, and each with weights of its own" : "the same shape each time, other weights"}. The stream runs through all of them.`,
    "What if the model stopped early? Read the stream between two layers with the head that is made for the end: a logit lens. It shows when the answer becomes the best guess.",
    "It is a tool made for the last layer. Early rows often say something odd and seem sure of it; they are gray while the final answer is not among the first hundred guesses.",
  ],
  formula: () => [{
    tex: String.raw`\text{lens}_l = \text{softmax}\big(U \, \text{norm}(x_l)\big)`,
    says: "The final norm and the head, applied to the stream before layer l.",
  }],
  fold: () => ({
    says: "Each layer understands a little more: first words, then grammar, then meaning.",
    is: [
      `Something of the kind is often seen over many texts, and nothing in the design demands it. For one sentence the answer may come late and at once. ${IN_DEFAULT} “today” is guess number ${whole(FIGURES["rank before layer 0"])} before layer 0, ${whole(FIGURES["rank before layer 20"])} before layer 20, ${whole(FIGURES["rank before layer 29"])} before layer 29, and then the first.`,
      "A lens that finds nothing does not prove that nothing is there: the stream may hold it in a form that only later layers read.",
    ],
  }),

  ask: async ({ look, model, next }) =>
    look({ include: ["logit_lens"], layers: Array.from({ length: model.num_layers }, (_, layer) => layer), lens_tokens: [next[0].id], top_logprobs: 3 }),

  draw(found, { next }) {
    const answer = quoted(next[0]);
    const ranks = found.layers.map(({ lens_tokens: [[{ rank }]] }) => rank);
    const rows = found.layers.map(({ layer, logit_lens: [guesses] }, i) => {
      const [best] = guesses;
      return [String(layer), el("code", { class: ranks[i] > TRUSTED ? "quiet-text" : null }, visible(best.token)), share(Math.exp(best.logprob)), ranks[i].toLocaleString("en")];
    });
    rows.push(["output", el("code", {}, visible(next[0].token)), share(Math.exp(next[0].logprob)), "0"]);
    const from = lastFrom(ranks);
    const words = `${answer} is the answer. ${from < ranks.length ? `It is the best guess from layer ${from} on.` : "No layer's stream has it as its best guess: the last layer decides."} Before layer 0 it was number ${(ranks[0] + 1).toLocaleString("en")} of all guesses, before the last layer number ${(ranks.at(-1) + 1).toLocaleString("en")}.`;
    return {
      node: el("div", {}, lines([{ name: `tokens likelier than ${answer}`, kind: "mlp", values: ranks.map((rank) => Math.log10(rank + 1)) }],
        { isTenfold: true, label: `How many tokens were likelier than ${answer}, by layer`, across: ["layer 0", `layer ${ranks.length - 1}`] }),
      el("div", { class: "tour-tall", tabindex: 0, role: "group", "aria-label": "Best guess of each layer" }, table(["before layer", "best guess", "sure", `likelier than ${visible(next[0].token)}`], rows, "Best guess of each layer"))),
      caption: words,
      alt: `${words} By layer: ${found.layers.map(({ layer, logit_lens: [[best]] }) => `${layer} ${quoted(best)}`).join(", ")}.`,
    };
  },
};

/** The first layer from which the answer stays the best guess. */
function lastFrom(ranks) {
  let from = ranks.length;
  while (from > 0 && ranks[from - 1] === 0) from -= 1;
  return from;
}
