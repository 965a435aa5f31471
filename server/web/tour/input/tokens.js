// Step 1: a text is cut into tokens, and each is a number.
import { el, visible } from "../../dom.js";
import { counted, table } from "../draw.js";
import { FIGURES } from "../figures.js";
import { tokenize, vocabulary } from "../look.js";

const whole = (value) => value.toLocaleString("en");
const WORD = "tzatziki";
const MAX_RANKED = 8; // the server's limit

export const tokens = {
  title: "Tokens",
  at: ["tokens"],
  isForAll: true,
  text: () => [
    "A model reads no letters and no words. Its text is first cut into tokens, pieces from a fixed list, and each token is only its number on that list.",
    "The list was made before the model was: from the bytes up, whatever two neighbours stood together most often in a large collection of texts became one new token, again and again. So a common word is one token, a rare one several.",
    "Write a word and see how it is cut. A dot in a token is a space: it belongs to the word behind it.",
  ],
  formula: () => [{
    tex: String.raw`\text{text} \to (t_1, \dots, t_n), \quad t_i \in \{0, \dots, V-1\}`,
    says: "A text becomes n numbers, each smaller than V, the size of the vocabulary.",
  }],
  fold: (model) => ({
    says: "Words are broken into subparts, as the English language has them.",
    is: [
      "Into pieces of bytes, merged by how often they stood together. Nothing linguistic decides, and no language is meant: the list was learned from whatever texts there were.",
      `Both “th” and “tz” are tokens. What differs is when they were merged: early means frequent. In SmolLM2 “th” is number ${whole(FIGURES.th)} and “tz” ${whole(FIGURES.tz)}; with a space in front ${whole(FIGURES["space th"])} and ${whole(FIGURES["space tz"])}. So “th is likelier” can be read from the ids, where they are given in that order.`,
      model.isKnown ? `This model's list has ${model.design.vocab_size.toLocaleString("en")} tokens.` : "",
    ].filter(Boolean),
  }),

  async ask({ signal }) {
    return read(WORD, signal);
  },

  draw(found, tour) {
    const word = el("input", { value: WORD, "aria-label": "A word to cut", maxlength: 60 });
    const pieces = el("div", { "aria-live": "polite" }, wordTable(found));
    let controller = null;
    word.addEventListener("input", async () => {
      controller?.abort();
      controller = new AbortController();
      const { signal } = controller;
      try {
        const answer = word.value ? await read(word.value, AbortSignal.any([signal, tour.signal])) : { ids: [], names: [] };
        if (!signal.aborted) pieces.replaceChildren(wordTable(answer));
      } catch (error) {
        if (error.name !== "AbortError") pieces.replaceChildren(el("p", { class: "note error" }, error.message));
      }
    });
    const rows = tour.tokens.map(({ id, token, bytes }, i) => [String(i), el("code", {}, visible(token)), id.toLocaleString("en"), bytes ? bytes.join(" ") : "–"]);
    const letters = [...tour.text].length;
    return {
      node: el("div", {}, chips(tour.tokens), table(["place", "token", "id", "bytes"], rows, "Tokens of the sentence"),
        el("p", { class: "tour-ask" }, el("label", {}, "A word of yours "), word), pieces),
      caption: `${counted(letters, "character")} became ${counted(tour.numTokens, "token")}.`,
      alt: `The sentence in ${counted(tour.ids.length, "token")}: ${tour.tokens.map(({ id, token }) => `${visible(token)}, id ${id}`).join("; ")}.`,
    };
  },
};

/** A word's tokens, and when each was merged, where this server tells. */
async function read(word, signal) {
  const { ids, names } = await tokenize(word, signal);
  try {
    const { tokens: known } = await vocabulary(ids.slice(0, MAX_RANKED), { nearest: 1 }, signal);
    return { ids, names, ranks: known.map((token) => token.merge_rank) };
  } catch (error) {
    if (signal.aborted) throw error;
    return { ids, names };
  }
}

function wordTable({ ids, names, ranks = [] }) {
  const rows = ids.map((id, i) => [el("code", {}, visible(names[i])), id.toLocaleString("en"), ranks[i]?.toLocaleString("en") ?? "not told"]);
  return table(["piece", "id", "made as number"], rows, "Pieces of the word");
}

function chips(list) {
  return el("p", { class: "tour-chips", "aria-hidden": "true" }, ...list.map(({ token }) => el("code", {}, visible(token))));
}
