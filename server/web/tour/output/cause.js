// Step 16: does it cause that? One text's stream is put into another's, place by place.
import { el } from "../../dom.js";
import { number, quoted, share, square } from "../draw.js";
import { FIGURES } from "../figures.js";
import { tokenize, tokenOf } from "../look.js";

const PAIRS = [
  ["The boy went to the store because", "The girl went to the store because"],
  ["The dad went to the store because", "The mum went to the store because"],
  ["Q went to the store because", "Z went to the store because"], // a letter is one token nearly everywhere
];
const ANSWERS = [" she", " he"];
const MAX_COST = 300_000; // the server's: tokens of all variants, times the layers they go through

let texts = null; // the reader's own

export const cause = {
  title: "Cause",
  at: ["stream", "layers"],
  text: () => [
    "Maps show where a head looks. Sums show what speaks for a token. Whether something is the cause is a third question, and only a change answers it.",
    "Here are two sentences that differ in a word. At one place (a layer, a token) the stream of the first is replaced by that of the second, and the model goes on from there. If the answer becomes the second's, what made the difference went through this place.",
    "Rows are layers, columns are tokens. Full color: the answer has changed over. Compare it with the maps of step 9.",
  ],
  formula: () => [{
    tex: String.raw`\text{recovered} = \frac{\Delta_{patched} - \Delta_{first}}{\Delta_{second} - \Delta_{first}}`,
    says: "Δ is the logit of the one answer less that of the other: 0 is the first sentence's, 1 the second's.",
  }],
  fold: () => ({
    says: "One can see from the attention why the model answers so.",
    is: [
      "Attention shows what was read from where, not what it was used for. A change shows that this place matters for this pair of sentences, and still not how.",
      `In SmolLM2-135M, in fp32, all of it sits at “girl” up to the middle and beyond: ${share(FIGURES["patch at girl before layer 25"])} before layer 25. Then it moves to the last token, ${share(FIGURES["patch at the end before layer 29"])} before layer 29.`,
      "One patch at a time misses what two places do together.",
    ],
  }),

  async ask({ look, model, signal }) {
    const [base, source] = await chosenTexts(signal);
    const answers = await Promise.all(ANSWERS.map((word) => tokenOf(word, signal)));
    const compare = answers[0].id === answers[1].id ? {} : { compare: answers.map(({ id }) => id) };
    if (base.ids.length !== source.ids.length) return { base, source };
    const cost = (base.ids.length ** 2 * model.num_layers * (model.num_layers + 1)) / 2;
    const step = Math.ceil(cost / MAX_COST);
    const layers = Array.from({ length: model.num_layers }, (_, layer) => layer).filter((layer) => layer % step === 0 || layer === model.num_layers - 1);
    const sweep = { over: "layers_positions", at: "resid_pre", set: "source" };
    // The grid is all that is told: nothing of layers.
    return { base, source, layers, found: await look({ include: undefined, layers, sweep, source: source.ids, ...compare }, base.ids) };
  },

  draw({ base, source, layers, found }, { choose, tell }) {
    const inputs = [["First", base], ["Second", source]].map(([name, { text }]) => el("input", { value: text, maxlength: 200, "aria-label": `${name} sentence` }));
    const form = el("form", { class: "tour-pair", onsubmit: (event) => {
      event.preventDefault();
      texts = inputs.map(({ value }) => value);
      choose({});
    } }, ...inputs, el("button", { type: "submit" }, "Patch"));
    if (!found) {
      const says = `The first sentence has ${base.ids.length} tokens, the second ${source.ids.length}: they must have as many, so that each place has its like. Change one of them.`;
      return { node: form, caption: says, alt: says };
    }
    const tokens = base.ids.map((id, i) => ({ token: base.names[i] }));
    const at = (row, position) => found.variants.find((one) => one.layer === layers[row] && one.position === position);
    const value = (row, position) => at(row, position).recovered;
    const says = (row, position) => `Stream before layer ${layers[row]} at ${quoted(base.names[position])}: ${value(row, position) === null ? "the two answers are too close to tell" : `${number(value(row, position), 2)} of the way`}.`;
    const { node } = square({
      tokens, rows: layers.map((layer) => ({ token: String(layer) })), label: "How far each patch changes the answer over, layers down, tokens across. Arrow keys move.",
      tell: (row, position) => tell(says(row, position)),
      cell: (row, position) => ({ value: Math.max(-1, Math.min(1, value(row, position) ?? 0)), text: says(row, position) }),
    });
    const [first, second] = found.compare.map(quoted);
    const [before, after] = [found.base.logit_difference, found.source.logit_difference];
    const handover = layers.map((_, row) => base.ids.map((__, position) => value(row, position) ?? 0)).map((row) => row.indexOf(Math.max(...row)));
    const last = base.ids.length - 1;
    const moves = handover.findLastIndex((position) => position !== last) + 1;
    const words = `Logit of ${first} less ${second}: ${number(before)} in the first sentence, ${number(after)} in the second. Before layer ${layers[0]} most lies at ${quoted(base.names[handover[0]])}${moves > 0 && moves < layers.length ? `; from layer ${layers[moves]} on, at the last token` : ""}.`;
    return { node: el("div", {}, form, node), caption: words, alt: `${words} ${handover.map((position, row) => `Layer ${layers[row]}: ${quoted(base.names[position])} ${share(value(row, position) ?? 0)}`).join("; ")}.` };
  },
};

/** The reader's sentences, or the first pair that is equally long in this model's tokens. */
async function chosenTexts(signal) {
  const read = (pair) => Promise.all(pair.map(async (text) => ({ text, ...(await tokenize(text, signal)) })));
  if (texts) return read(texts);
  const found = [];
  for (const pair of PAIRS) {
    found.push(await read(pair));
    if (found.at(-1)[0].ids.length === found.at(-1)[1].ids.length) return found.at(-1);
  }
  return found[0];
}
