// Step 8: what is taken along. Weights times values.
import { el, visible } from "../../dom.js";
import { row, sum } from "../arithmetic.js";
import { bars, choice, number, share } from "../draw.js";
import { FIGURES } from "../figures.js";

export const values = {
  title: "Values",
  at: ["values"],
  controls: ["layer", "head", "query"],
  text: () => [
    "A weight says how much; the value says of what. Each token's value is multiplied by its weight, and the sum is what this head has gathered for the token that asks.",
    "A large weight may carry little: if the value behind it is short, hardly anything arrives. So look at weight times length, too. The first token often has much weight and a tiny value.",
  ],
  formula: () => [{
    tex: String.raw`z_m = \sum_{n \le m} a_{mn}\, v_n, \qquad \text{added: } W_O\, z_m`,
    says: "The weighted sum of values; one more matrix then brings it back to the width of the stream.",
  }],
  fold: () => ({
    says: "Attention carries the meaning of “fried” into “noodles”.",
    is: [
      "Yes: what “noodles” gathers comes from “fried”, through the value and one more matrix (W_O).",
      `Not the other way round. “fried” itself can never learn of the noodles, which come later: its vector is the same in any text that begins the same way. In SmolLM2-135M the vectors of “fried” in “Sherry fried in the sun” and in “Greasy fried noodles” differ only by what stood before: their cosine is ${FIGURES["fried before layer 0"].toFixed(3)} before layer 0, ${FIGURES["fried before layer 5"]} before layer 5 and ${FIGURES["fried at the end"]} at the end.`,
      "And a head that looks at the token before may do so for any text: this is grammar by position, not meaning. Step 9 tests that with random tokens.",
    ],
  }),

  async ask({ chosen, look, model }) {
    const found = await look({ include: ["pattern", "value_norms"], layers: [chosen.layer], heads: [chosen.head] });
    return { ...found.at(chosen.layer), isGated: model.design.gated_heads };
  },

  draw({ pattern, value_norms: norms, isGated }, { tokens, chosen, name }) {
    const keys = tokens.map((_, key) => key).filter((key) => key <= chosen.query);
    const lengths = isGated ? row(norms, 0, chosen.query) : row(norms, 0); // then it is up to the token that asks
    const taken = keys.map((key) => row(pattern, 0, chosen.query)[key]);
    const carried = keys.map((key) => taken[key] * lengths[key]);
    const picture = el("div", {});
    const show = (isCarried) => picture.replaceChildren(bars(keys.map((key) => ({
      name: el("code", {}, visible(tokens[key].token)), kind: "attention",
      value: isCarried ? carried[key] : taken[key],
      text: isCarried ? `${share(taken[key])} × ${number(lengths[key])} = ${number(carried[key])}` : share(taken[key]),
    })), isCarried ? {} : { most: 1 }));
    show(true);
    const best = carried.indexOf(Math.max(...carried));
    const words = `${name(chosen.query)} takes most from ${name(best)}: ${share(taken[best])} of a value ${number(lengths[best])} long is ${number(carried[best])}, of ${number(sum(carried))} in all. ${name(0)}'s own value is ${number(lengths[0])} long.${isGated ? ` All lengths are behind this model's gate, which lets through of a value as much as the token that asks says: here ${name(chosen.query)}.` : ""}`;
    return {
      node: el("div", {}, choice("Bars", [[true, "weight × length of the value"], [false, "weight alone"]], true, show), picture),
      caption: words,
      alt: `${words} In order: ${keys.map((key) => `${name(key)} ${number(carried[key])}`).join(", ")}.`,
    };
  },
};
