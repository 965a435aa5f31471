// Step 7: a row of scores becomes a row of weights.
import { el, visible } from "../../dom.js";
import { beside, row, sees, sinkOf, sum } from "../arithmetic.js";
import { bars, number, share, slider } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { bandOf } from "../model.js";

export const weights = {
  title: "Softmax",
  at: ["softmax"],
  controls: ["layer", "head", "query"],
  text: (model) => [
    "Scores can be any numbers. The softmax makes weights of them: all above zero, and a row adds up to 100 %. One point more of score is 2.7 times the weight.",
    "Turn the temperature: below 1 the winner takes all, above 1 all become alike. Attention's own is always 1.",
    "Heads that find nothing to look for put their weight on the first token, whatever it says: an attention sink. “Hide the first token” leaves it out of this picture, not of the model.",
    model.design.sinks ? "This model's heads have a sink of their own, a score that takes weight and gives nothing: its rows add up to less than 100 %." : "",
  ].filter(Boolean),
  formula: () => [{
    tex: String.raw`a_{mn} = \frac{e^{s_{mn}}}{\sum_{j \le m} e^{s_{mj}}}`,
    says: "Each score's exponential, over the sum of the row's.",
  }],
  fold: () => ({
    says: "The softmax turns a number into a probability.",
    is: [
      "A whole row at once: no number of it has a weight by itself.",
      "And it is a share, of what a token takes from where; nothing is drawn by chance inside the model.",
      "Rows add up to 100 %, columns do not: some tokens are looked at by many, some by none.",
      `${IN_DEFAULT} ${share(FIGURES.sink)} of all weight, of all heads, lies on the first token, which is the letter “G”.`,
    ],
  }),

  ask: async ({ chosen, look, model }) => {
    const options = { layers: [chosen.layer], heads: [chosen.head] };
    const isWhole = !model.design.state_layers.length;
    return (await look({ ...options, include: isWhole ? ["scores", "pattern"] : ["pattern"] })).at(chosen.layer);
  },

  draw({ scores, pattern }, { tokens, chosen, model, name }) {
    const band = bandOf(model, chosen.layer);
    const seen = tokens.map((_, key) => key).filter((key) => sees(chosen.query, key, band));
    const own = seen.map((key) => row(pattern, 0, chosen.query)[key]);
    const at = (temperature) => {
      if (temperature === 1 || !scores) return own;
      const every = seen.map((key) => row(scores, 0, chosen.query)[key]);
      return beside(sinkOf(every, own), every, temperature);
    };
    const shown = { temperature: 1, isHidden: false };
    const picture = el("div", {});
    const redraw = () => {
      const every = at(shown.temperature);
      const from = shown.isHidden && seen[0] === 0 && seen.length > 1 ? 1 : 0;
      const total = from ? sum(every.slice(from)) : 1;
      picture.replaceChildren(bars(seen.slice(from).map((key, i) => ({
        name: el("code", {}, visible(tokens[key].token)), value: every[i + from] / total, kind: "attention",
        text: `${scores ? `${number(row(scores, 0, chosen.query)[key])} → ` : ""}${share(every[i + from] / total)}`,
      })), { most: 1 }), from ? el("p", { class: "note" }, `For viewing only: shares of the ${share(total)} that are not on ${name(0)}.`) : "");
    };
    redraw();
    const columns = tokens.map((_, key) => sum(tokens.map((__, query) => row(pattern, 0, query)[key])));
    const sink = columns[0] / sum(columns);
    const best = seen[own.indexOf(Math.max(...own))];
    const words = `${name(chosen.query)} gives most to ${name(best)}, ${share(Math.max(...own))}; its row adds up to ${share(sum(own))}. Of all weight of this head ${share(sink)} lies on the first token.`;
    const hidden = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      shown.isHidden = !shown.isHidden;
      hidden.setAttribute("aria-pressed", String(shown.isHidden));
      redraw();
    } }, "Hide the first token");
    const temperature = scores && slider("Temperature", { min: 0.1, max: 4, step: 0.1, value: 1, text: (value) => value.toFixed(1) }, (value) => {
      shown.temperature = value;
      redraw();
    });
    return {
      node: el("div", {}, el("div", { class: "tour-controls" }, temperature || null, hidden), picture,
        el("p", { class: "note" }, `Columns add up to ${columns.map((value) => number(value, 2)).join(", ")}.`)),
      caption: words,
      alt: `${words} The row: ${seen.map((key, i) => `${name(key)} ${share(own[i])}`).join(", ")}. Columns add up to ${columns.map((value) => number(value, 2)).join(", ")}.`,
    };
  },
};
