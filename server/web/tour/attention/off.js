// Step 10: a head is switched off, and the next token tells whether it mattered.
import { el } from "../../dom.js";
import { counted, number } from "../draw.js";
import { effect, shifted } from "../effect.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { grid } from "../heads.js";
import { post, server, stream } from "../../api.js";

const MAX_COST = 300_000; // the server's: tokens of all variants, times the layers they go through

export const off = {
  title: "A head switched off",
  at: ["heads", "stream"],
  controls: ["layer", "head"],
  text: () => [
    "A map shows where a head looks, not whether it matters. So the head is taken out, in a run of its own, and the next token is computed again.",
    "The change is one number, the Kullback–Leibler divergence: 0 if the guess stays as it was. Most heads change next to nothing: others do the same work.",
    "A model in 8 bits rounds, and a small change drowns in that. How much rounding alone does is measured with each effect; what is below is gray and says nothing.",
  ],
  formula: () => [{
    tex: String.raw`D_{KL}(p \,\|\, p') = \sum_t p(t) \ln \frac{p(t)}{p'(t)}`,
    says: "Over all tokens: how likely each was, times how much its likelihood fell, as a logarithm.",
  }],
  fold: () => ({
    says: "Each head finds one cue that the answer needs.",
    is: [
      `Few single heads matter for a sentence, and what one does is often done by another as well. ${IN_DEFAULT} ${FIGURES["heads above 0.1"]} of ${FIGURES.heads} heads move the next token by more than 0.1 nats, and ${FIGURES["heads above the noise"]} by more than rounding does. In 8 bits rounding drowns many of those: The button that tries them all shows which.`,
      `Nothing in its place is a state the model has never seen, and can break it for that reason alone. Its mean over the text is the fairer test: what was constant stays, what was said about this token goes. Without head 1 of layer 0 the next token moves by ${FIGURES["L0H1 zero"]} nats, with its mean in its place by ${FIGURES["L0H1 mean"]}: its constant was missed, not its message.`,
    ],
  }),

  ask: async ({ chosen, look }) => {
    const edit = { at: "head", layer: chosen.layer, head: chosen.head };
    const zero = await look({ interventions: [{ ...edit, set: "zero" }], top_logprobs: 6 });
    const average = await look({ interventions: [{ ...edit, set: "mean" }], top_logprobs: 6 });
    return { zero, average };
  },

  draw({ zero, average }, tour) {
    const { chosen } = tour;
    const name = `head ${chosen.head} of layer ${chosen.layer}`;
    const heads = el("div", {});
    const out = el("p", { class: "tour-caption", role: "status" });
    const sweepButton = el("button", { type: "button", onclick: () => sweep(tour, heads, out) }, "Try every head");
    const means = `With its mean in its place: ${number(average.changed.kl)} nats.`;
    const words = `Without ${name} ${effect(zero)} ${means}`;
    if (sweeps.of === tour.ids && sweeps.model === tour.model.model) showSweep(tour, heads, out);
    return {
      node: el("div", {}, shifted(zero), el("p", { class: "tour-controls" }, sweepButton), out, heads),
      caption: words,
      alt: `${words} The likeliest next token ${zero.base_next_token[0][0].id === zero.next_token[0][0].id ? "stays" : "changes"}.`,
    };
  },
};

const sweeps = { of: null, model: null, variants: [], noise: null }; // the last one, of this text

async function sweep(tour, node, out) {
  const variants = [];
  try {
    const body = { model: server.model, prompt: tour.ids, stream: true, layers: affordable(tour), sweep: { over: "heads", set: "zero" } };
    for await (const event of stream(await post("/v1/inspect", body, tour.signal))) {
      if (event.object === "inspection.sweep") variants.push(...event.variants);
      if (event.object === "inspection.end") Object.assign(sweeps, { of: tour.ids, model: tour.model.model, variants, noise: event.noise });
      out.textContent = `${counted(variants.length, "head")} tried…`;
    }
    showSweep(tour, node, out);
  } catch (error) {
    if (error.name !== "AbortError") out.textContent = error.message;
  }
}

/** All layers, or the last ones that the server computes in one go. */
function affordable({ ids, model }) {
  const layers = Array.from({ length: model.num_layers }, (_, layer) => layer);
  const cost = (first) => ids.length * model.num_heads * layers.slice(first).reduce((sum, layer) => sum + model.num_layers - layer, 0);
  const first = layers.find((layer) => cost(layer) <= MAX_COST) ?? model.num_layers - 1;
  return layers.slice(first);
}

function showSweep({ model, chosen, choose }, node, out) {
  const { variants, noise } = sweeps;
  const most = variants.reduce((best, one) => (one.kl > best.kl ? one : best));
  const above = variants.filter((one) => one.is_above_noise).length;
  const of = (layer, head) => variants.find((one) => one.layer === layer && one.head === head);
  node.replaceChildren(grid(model, ({ layer, head }) => {
    const one = of(layer, head);
    if (!one) return { value: 0, kind: "nothing", says: "not tried" };
    const says = `${number(one.kl)} nats${one.is_above_noise ? "" : ", no more than rounding"}`;
    return { value: Math.sqrt(one.kl / (most.kl || 1)), kind: one.is_above_noise ? "attention" : "nothing", says };
  }, chosen, choose, "What switching off each head does. Arrow keys move."));
  out.textContent = `${above} of ${counted(variants.length, "head")} change the next token by more than rounding does (${number(noise.kl_max)} nats); layer ${most.layer}, head ${most.head} does most, ${number(most.kl)} nats.`;
}
