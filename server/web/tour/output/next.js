// Step 15: scores of all tokens, one is drawn, and all begins again.
import { el, visible } from "../../dom.js";
import { softmax } from "../arithmetic.js";
import { bars, number, quoted, share, slider } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { MAX_TOKENS } from "../look.js";

export const next = {
  title: "The next token, repeated",
  at: ["next"],
  text: () => [
    "At the end the last token's vector is held against a row for each token of the vocabulary. That gives a score each, and a softmax makes shares of them. This is all the model says.",
    "Which token is written is no longer the model's matter: the server draws one by these shares. The temperature makes the shares more or less alike, top-k and top-p leave out the unlikely ones.",
    "Draw a token: it is added to the text, and the whole model runs again. Every answer is written so.",
  ],
  formula: () => [{
    tex: String.raw`p_t = \frac{e^{\ell_t / T}}{\sum_j e^{\ell_j / T}}`,
    says: "ℓ is a token's score (logit), T the temperature.",
  }, {
    tex: String.raw`\text{surprise}_m = -\log_2 p(t_m \mid t_1 \dots t_{m-1})`,
    says: "In bits: one for each halving of the likelihood.",
  }],
  fold: () => ({
    says: "The last block's output is the answer.",
    is: [
      "The last block gives vectors. What turns them into tokens is the head (unembedding), a softmax and a draw, which are often left out of the telling.",
      "The model never decides on a sentence. It scores one next token, and cannot take back what was drawn.",
      `It scores the reader's own words, too. ${IN_DEFAULT} “fried” was a surprise of ${FIGURES["bits of fried"]} bits, “be” of ${FIGURES["bits of be"]}.`,
    ],
  }),

  ask: async ({ look, next: guesses, ids }) => ({
    guesses,
    surprisal: ids.length > 1 ? (await look({ include: ["surprisal"] })).surprisal : null,
  }),

  draw({ guesses, surprisal }, tour) {
    const { tokens, add } = tour;
    const isFull = tokens.length >= MAX_TOKENS;
    const shown = { temperature: 1, topK: guesses.length, topP: 1 };
    const picture = el("div", {});
    const redraw = () => picture.replaceChildren(bars(kept(guesses, shown).map(({ token, share: own }) => ({ name: el("code", {}, visible(token)), value: own, text: share(own) })), {}));
    redraw();
    const draw = () => {
      const options = kept(guesses, shown);
      let left = Math.random();
      const drawn = options.find(({ share: own }) => (left -= own) < 0) ?? options[0];
      add(drawn);
    };
    const move = (name) => (value) => {
      shown[name] = value;
      redraw();
    };
    const total = guesses.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
    const bits = surprisal?.nats.map((nats) => nats / Math.LN2);
    const most = bits && bits.indexOf(Math.max(...bits));
    const words = `After the text ${guesses.slice(0, 3).map((guess) => `${quoted(guess)} has ${share(Math.exp(guess.logprob))}`).join(", ")}; the ${guesses.length} shown have ${share(total)} together.${bits ? ` Most surprising in it was ${tour.name(most + 1)}, ${number(bits[most])} bits.` : ""}`;
    const sentence = bits ? el("p", { class: "tour-chips" }, ...tokens.map(({ token }, i) => el("span", {}, el("code", {}, visible(token)), el("small", {}, i ? `${number(bits[i - 1], 2)}` : "–")))) : "";
    return {
      node: el("div", {}, el("div", { class: "tour-controls" },
        slider("Temperature", { min: 0.1, max: 2, step: 0.1, value: 1, text: (value) => value.toFixed(1) }, move("temperature")),
        slider("Top k", { min: 1, max: guesses.length, step: 1, value: guesses.length }, move("topK")),
        slider("Top p", { min: 0.05, max: 1, step: 0.05, value: 1, text: (value) => value.toFixed(2) }, move("topP")),
        el("button", { type: "button", class: "primary", onclick: draw, disabled: isFull, title: isFull ? `The tour reads ${MAX_TOKENS} tokens at most.` : null }, "Draw a token")), picture,
      el("p", { class: "note" }, `Shares among the ${guesses.length} likeliest tokens: the others are left out here.`),
      el("h4", {}, "How surprising each token was, in bits"), sentence),
      caption: words,
      alt: `${words} In order: ${guesses.slice(0, 10).map((guess) => `${quoted(guess)} ${share(Math.exp(guess.logprob))}`).join(", ")}.`,
    };
  },
};

/** The tokens that are left by top-k and top-p, with their shares at a temperature. */
export function kept(guesses, { temperature, topK, topP }) {
  const top = guesses.slice(0, topK);
  const shares = softmax(top.map(({ logprob }) => logprob), temperature);
  let before = 0;
  const count = shares.findIndex((own) => (before += own) >= topP - 1e-9) + 1 || shares.length;
  const left = shares.slice(0, count);
  const total = left.reduce((sum, own) => sum + own, 0);
  return left.map((own, i) => ({ ...top[i], share: own / total }));
}
