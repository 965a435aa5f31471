// Step 9: many heads side by side, and what some of them are for.
import { el } from "../../dom.js";
import { mean } from "../arithmetic.js";
import { headScores } from "../chosen.js";
import { counted, number, share } from "../draw.js";
import { FIGURES } from "../figures.js";
import { grid, maps } from "../heads.js";
import { amongLayers } from "../model.js";

const LEAST = 0.3; // of a head's weight, to be called by a kind
const MAX_BYTES = 108_000; // of all heads' maps; with the scores a step stays under 120 KB
const NAMES = { previous_token: "the token before", duplicate_token: "an earlier copy", induction: "behind an earlier copy" };

export const heads = {
  title: "Heads",
  at: ["heads"],
  controls: ["layer", "head"],
  text: (model) => [
    `All this happens many times side by side: ${model.isKnown ? `${model.num_heads} heads in ${amongLayers(model, model.num_layers - model.design.state_layers.length)}` : "in several heads"}, each with its own matrices, each with its own habit.`,
    "Habits show best on text without sense: random tokens, written twice. A head that always looks at the token before, at an earlier copy of the token, or behind such a copy (“induction”: what came next last time?) is found by where its weight lies.",
    "“Run it” lets the model read that text. Its first half cannot be guessed; the second can, by those who look behind the copy.",
  ],
  formula: () => [{
    tex: String.raw`\text{attention}(x)_m = \sum_{h=1}^{H} W_O^{h} z_m^{h}`,
    says: "What all heads of a layer gathered, each by its own part of the output matrix, added up: one vector for each token.",
  }],
  fold: () => ({
    says: "GPT-3 has 96 heads: 96 layers of attention in the block, multilayered attention.",
    is: [
      "GPT-3 has 96 heads in each of 96 layers, 9,216 in all. That both numbers are 96 is a coincidence.",
      `Whether heads do what their kind says shows in what it is good for: reading random tokens twice, SmolLM2-135M is surprised by ${FIGURES["loss of the first half"]} nats a token in the first half and by ${FIGURES["loss of the second half"]} in the second.`,
      "Heads stand side by side and see the same stream; layers stand one behind the other. A layer adds one vector to a token, the sum of what its heads found, not 96.",
    ],
  }),

  async ask({ model, chosen, look, ids, signal }) {
    const scores = await headScores(model, signal);
    const length = ids.length;
    const bytes = (16 / 3) * model.num_layers * model.num_heads * (length - 1) * length;
    const layers = bytes <= MAX_BYTES ? Array.from({ length: model.num_layers }, (_, layer) => layer) : [chosen.layer];
    const positions = ids.map((_, place) => place).slice(length > 1 ? 1 : 0); // the first row has no choice
    return { scores, layers, found: await look({ include: ["pattern"], layers, positions }) };
  },

  draw({ scores: { kinds, token_ids: random }, layers, found }, { model, chosen, choose, look }) {
    const kindOf = (layer, head) => Object.keys(kinds).sort((a, b) => kinds[b][layer][head] - kinds[a][layer][head])[0];
    const best = Object.keys(NAMES).map((kind) => {
      const every = kinds[kind].flatMap((list, layer) => list.map((value, head) => ({ kind, value, layer, head })));
      return every.reduce((most, one) => (one.value > most.value ? one : most));
    });
    const cells = grid(model, ({ layer, head }) => {
      const kind = kindOf(layer, head);
      const value = kinds[kind][layer][head];
      return { value, kind: value < LEAST ? "none" : kind.split("_")[0], says: `${share(value)} at ${NAMES[kind]}` };
    }, chosen, choose);
    const key = el("p", { class: "tour-key" }, ...Object.entries(NAMES).map(([kind, name]) => el("span", {}, el("i", { class: `kind-${kind.split("_")[0]}` }), name)));
    const out = el("p", { class: "tour-caption", role: "status" });
    const run = el("button", { type: "button", onclick: async () => {
      out.textContent = "Reading…";
      try {
        out.textContent = losses(random.length, (await look({ include: ["surprisal"] }, random)).surprisal.nats);
      } catch (error) {
        out.textContent = error.message;
      }
    } }, "Run it: random tokens, twice");
    const names = best.map(({ kind, value, layer, head }) => `${NAMES[kind]}: layer ${layer}, head ${head} with ${share(value)}`);
    const words = `Strongest at ${names.join("; ")}.`;
    return {
      node: el("div", {}, key, cells, el("h4", {}, layers.length > 1 ? "All heads' maps of this sentence" : `The maps of layer ${chosen.layer}`),
        maps(found, model, chosen, choose), el("p", { class: "tour-controls" }, run), out),
      caption: words,
      alt: `A grid of ${(model.num_layers - model.design.state_layers.length) * model.num_heads} heads, colored by what they look at with random tokens. ${words} ${counted(cellsOf(kinds), "head")} look there with at least ${share(LEAST)} of their weight.`,
    };
  },
};

const cellsOf = (kinds) => Object.values(kinds)[0].flatMap((list, layer) => list.filter((_, head) => Object.values(kinds).some((kind) => kind[layer][head] >= LEAST))).length;

function losses(count, nats) {
  const [first, second] = [nats.slice(0, count / 2 - 1), nats.slice(count / 2)];
  return `Of the first ${count / 2} tokens each surprised by ${number(mean(first))} nats on average, of the second ${count / 2}, the same again, by ${number(mean(second))}.`;
}
