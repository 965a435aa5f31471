// Step 12: the larger part of the weights. Neurons, or experts that a router asks.
import { el, visible } from "../../dom.js";
import { bars, counted, number, share, square } from "../draw.js";
import { effect, shifted } from "../effect.js";
import { FIGURES } from "../figures.js";
import { amongLayers } from "../model.js";
import { sum } from "../arithmetic.js";

export const mlp = {
  title: "The MLP",
  at: ["mlp"],
  controls: ["mlpLayer", "token"],
  text: (model) => [
    "After attention each token is by itself again. The MLP (multi-layer perceptron) multiplies its vector by one large matrix, lets only some of the results through, and multiplies by another one back to the stream's width.",
    model.design.experts
      ? `This model has ${counted(model.design.experts.num_experts, "small MLP")} in ${amongLayers(model, model.design.experts.layers.length)}, called experts. A router, one small matrix, chooses ${model.design.experts.num_chosen} for each token${model.design.experts.has_shared ? ", and one more is taken by all" : ""}; only these compute.`
      : `The results in between are called neurons${model.isKnown ? `, ${model.design.intermediate_size.toLocaleString("en")} in each MLP here` : ""}. For one token a few speak loudly and most hardly at all. Click one to switch it off, and see what becomes of the next token.`,
    "Most of a model's weights are here; “Where the weights are” counts them.",
  ],
  formula: (model) => [
    model.design.gated_mlp === false
      ? { tex: String.raw`\text{MLP}(x) = W_{out}\, \phi(W_{in}\, x)`, says: "φ is a bent line, such as GELU: what is far below zero becomes zero." }
      : { tex: String.raw`\text{MLP}(x) = W_{down} \big( \phi(W_{gate}\, x) \odot W_{up}\, x \big)`, says: "One matrix opens or shuts, number by number, what the other lets through; φ is a bent line, such as SiLU." },
  ],
  fold: (model) => ({
    says: "Attention is one third of the weights; the MLP, two thirds, is where the model reasons.",
    is: [
      "One third is exact for the classic block: four matrices of d × d in attention, two of d × 4d in the MLP. GPT-3 has 58.0 billion weights in attention and 116.0 billion in MLPs.",
      `SmolLM2-135M has ${share(FIGURES["attention in the layers"])} of its layers' weights in attention, ${share(FIGURES["attention in all"])} of all: shared key heads make attention smaller, a gate makes the MLP larger.`,
      model.isKnown ? `Here ${shares(model).hasStates ? "attention and states have" : "attention has"} ${share(shares(model).inLayers)} of the weights inside the layers, and ${share(shares(model).inAll)} of all.` : "",
      "These are counts of weights, no measure of importance. That “the model reasons there” is more than anybody can show.",
    ].filter(Boolean),
  }),

  ask: async ({ chosen, look, model }) => {
    const { experts } = model.design;
    const isRouted = experts?.layers.includes(chosen.layer);
    const options = { layers: [chosen.layer], ...(isRouted ? {} : { positions: [chosen.query], top_neurons: 10 }) };
    return { at: (await look({ ...options, include: [isRouted ? "routing" : "neurons"] })).at(chosen.layer) };
  },

  draw({ at }, tour) {
    const counts = shares(tour.model);
    const weights = el("div", {}, el("h4", {}, "Where the weights are"), bars([[counts.hasStates ? "heads, states" : "attention", "attention"], ["MLP", "mlp"], ["embeddings", "embeddings"]].map(([name, kind]) => ({
      name, kind, value: counts[kind], text: millions(counts[kind]),
    }))));
    const words = `${counts.hasStates ? "Attention and states have" : "Attention has"} ${share(counts.inLayers)} of the weights inside the layers, the MLPs have ${share(1 - counts.inLayers)}.`;
    const { node, says } = at.routing ? routed(at.routing, tour) : firing(at.neurons[0], tour);
    return { node: el("div", {}, node, weights), caption: `${says} ${words}`, alt: `${says} ${words} Counted: attention ${millions(counts.attention)}, MLPs ${millions(counts.mlp)}, embeddings ${millions(counts.embeddings)}.` };
  },
};

function shares({ parameters }) {
  const of = (...names) => sum(names.map((name) => parameters[name] ?? 0));
  const attention = of("query", "key", "value", "output", "state");
  const inMlp = of("mlp", "router");
  const embeddings = of("embeddings", "positions", "head");
  return { attention, hasStates: of("state") > 0, mlp: inMlp, embeddings, inLayers: attention / (attention + inMlp || 1), inAll: attention / (sum(Object.values(parameters)) || 1) };
}

const millions = (count) => (count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : count.toLocaleString("en"));

function firing(neurons, { chosen, look, name }) {
  const out = el("div", { "aria-live": "polite" });
  const silence = async (neuron) => {
    out.replaceChildren(el("p", { class: "note" }, "Computing…"));
    try {
      const edit = { at: "neuron", layer: chosen.layer, neuron, set: "zero" };
      const found = await look({ interventions: [edit], top_logprobs: 5 });
      out.replaceChildren(el("p", { class: "tour-caption" }, `Without neuron ${neuron} of layer ${chosen.layer} ${effect(found)}`), shifted(found));
    } catch (error) {
      if (error.name !== "AbortError") out.replaceChildren(el("p", { class: "note error" }, error.message));
    }
  };
  const rows = neurons.map(({ index, value }) => ({ name: `neuron ${index}`, value, text: number(value), kind: "mlp", onclick: () => silence(index), says: "Switch it off" }));
  const says = `For ${name(chosen.query)} neuron ${neurons[0].index} of layer ${chosen.layer} is the loudest, ${number(neurons[0].value)}; the ${neurons.length}th has ${number(neurons.at(-1).value)}.`;
  return { node: el("div", {}, bars(rows), out), says };
}

function routed(routing, { model, tokens, chosen, name, tell }) {
  const count = model.design.experts.num_experts;
  const experts = Array.from({ length: count }, (_, i) => ({ token: String(i) }));
  const weight = (token, expert) => routing[token].find(({ index }) => index === expert)?.weight ?? 0;
  const isShared = Math.abs(sum(routing[chosen.query].map(({ weight: own }) => own)) - 1) < 1e-3; // some routers weigh each by itself
  const asked = routing[chosen.query].map(({ index, weight: own }) => `expert ${index} (${isShared ? share(own) : `times ${number(own)}`})`).join(", ");
  const { node } = square({
    tokens: experts, rows: tokens, marked: [chosen.query, routing[chosen.query][0].index], label: `Which of ${count} experts each token asks. Arrow keys move.`,
    tell: (token, expert) => tell(`${name(token)} ${weight(token, expert) ? `takes ${share(weight(token, expert))} from` : "does not ask"} expert ${expert}.`),
    cell: (token, expert) => ({ value: weight(token, expert), text: `${visible(tokens[token].token)}, expert ${expert}: ${share(weight(token, expert))}` }),
  });
  return { node, says: `In layer ${chosen.layer} the router sends ${name(chosen.query)} to ${asked}.` };
}
