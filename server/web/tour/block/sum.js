// Step 13: the stream is a sum, so a logit is one too.
import { el, visible } from "../../dom.js";
import { sum } from "../arithmetic.js";
import { bars, choice, number, quoted } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { statesOf } from "../model.js";

const TINY = 1e-6; // rounding: no bar is drawn for it

let pair = null; // {of, ids}: two tokens that the reader chose

export const streamSum = {
  title: "The stream as a sum",
  at: ["stream", "add"],
  text: ({ design }) => [
    `Nothing is replaced on the way: the embedding adds a vector, and in every layer attention${statesOf(design) > 0 ? ", or a state," : design.state_beside ? ", a state" : ""} and the MLP${design.lone_mlps.length ? ", whichever the layer is," : ""} add theirs, and the sum runs on. This running sum is called the residual stream.`,
    "The last step, from stream to the score of a token (its logit), is linear once the final norm's divisor is known. So each part's own share of the score can be told: here, of the likeliest token's less the second's.",
    "A bar to the right speaks for the first, one to the left for the second. Click an attention bar to see its heads.",
  ],
  formula: () => [{
    tex: String.raw`x_{end} = x_{embed} + \sum_{l} \big( \text{attention}_l + \text{MLP}_l \big)`,
    says: "All that was added for this token, in every layer.",
  }, {
    tex: String.raw`\text{logit}_t = \sum_{parts\; c} \frac{(c \odot \gamma) \cdot U_t}{s}`,
    says: "U is the head's row of the token, γ the final norm's factors, s what it divides by, held fixed.",
  }],
  fold: () => ({
    says: "Every block adds to the vector, and all information is retained.",
    is: [
      `Added is right. Retained is not: a later part may add the opposite of an earlier one, and then both are gone. Large bars on both sides often cancel. ${IN_DEFAULT} of the logit of “today” less that of “.” the MLP of layer 29 adds ${number(FIGURES["MLP 29"])}, all ${FIGURES.heads} heads together ${number(FIGURES["all heads"])}.`,
      "A large share is no cause, either. Without that part the divisor and all later layers would have been others. What leaving a part out really does is step 10.",
    ],
  }),

  async ask({ look, next, ids }) {
    const compare = pair?.of === ids ? pair.ids : next.slice(0, 2).map(({ id }) => id);
    return (await look({ include: ["attribution"], compare })).attribution;
  },

  draw(found, tour) {
    const { rows, total } = partsOf(found);
    const open = el("div", {});
    const [first, second] = found.tokens.map(quoted);
    const of = second ? `the logit of ${first} less that of ${second}` : `the logit of ${first}`;
    const show = (order) => {
      const shown = order === "largest" ? [...rows].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, 16) : rows;
      picture.replaceChildren(bars(shown.map(({ name, value, kind, layer }) => ({
        name, value, kind, text: number(value), onclick: layer !== undefined ? () => open.replaceChildren(...headBars(found, layer)) : undefined,
      }))));
    };
    const picture = el("div", { class: "tour-tall", tabindex: 0, role: "group", "aria-label": "Parts of the logit" });
    show("largest");
    const largest = [...rows].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const words = `${rows.length} parts add up to ${number(total)}; ${of} is ${number(found.logit)}. The largest: ${largest.slice(0, 3).map(({ name, value }) => `${name} ${number(value)}`).join(", ")}.`;
    const selects = found.tokens.map((token, place) => {
      const options = unique([token, ...tour.next]).map(({ id, token: name }) => el("option", { value: id, selected: id === token.id }, visible(name)));
      const select = el("select", { onchange: () => {
        pair = { of: tour.ids, ids: found.tokens.map(({ id }, i) => (i === place ? Number(select.value) : id)) };
        tour.choose({});
      } }, ...options);
      return el("label", {}, place ? " less " : "Logit of ", select);
    });
    return {
      node: el("div", {}, el("p", { class: "tour-controls" }, ...selects), choice("Order", [["largest", "largest first"], ["layers", "layer by layer"]], "largest", show), picture, open),
      caption: words,
      alt: `Bars of what each part adds to ${of}. ${words} Attention of all layers together ${number(sum(rows.filter(({ kind }) => kind === "attention").map(({ value }) => value)))}, MLPs ${number(sum(rows.filter(({ kind }) => kind === "mlp").map(({ value }) => value)))}.`,
    };
  },
};

const unique = (tokens) => tokens.filter(({ id }, i) => tokens.findIndex((one) => one.id === id) === i);

/** Every part that gives anything, in the order of the model; together they are the logit. */
function partsOf(found) {
  const rows = [
    { name: "embedding", value: found.embed, kind: "embeddings" },
    { name: "position", value: found.positions, kind: "embeddings" },
  ];
  found.mlp.forEach((value, layer) => {
    const attention = sum(found.heads[layer]) + found.attention_bias[layer] + found.attention_rest[layer];
    rows.push(
      { name: `attention ${layer}`, value: attention, kind: "attention", layer },
      { name: `state ${layer}`, value: found.state[layer], kind: "attention" },
      { name: `MLP ${layer}`, value, kind: "mlp" },
      { name: `layer ${layer}'s own input`, value: found.layer_input[layer], kind: "embeddings" },
    );
  });
  const rest = found.final_bias + found.stream_rounding + found.head_rounding + sum(found.stream_bias);
  rows.push({ name: "bias, rounding", value: rest, kind: "norms" });
  return { rows: rows.filter(({ value }) => Math.abs(value) > TINY), total: sum(rows.map(({ value }) => value)) };
}

function headBars(found, layer) {
  const rows = found.heads[layer].map((value, head) => ({ name: `head ${head}`, value, text: number(value), kind: "attention" }));
  const rest = found.attention_bias[layer] + found.attention_rest[layer];
  if (Math.abs(rest) > TINY) rows.push({ name: "bias, rounding", value: rest, text: number(rest), kind: "norms" });
  return [el("h4", {}, `The heads of layer ${layer}`), bars(rows)];
}
