// Step 2: each token has a vector, and like tokens have like ones.
import { el, visible } from "../../dom.js";
import { bars, choice, number, quoted } from "../draw.js";
import { FIGURES } from "../figures.js";
import { tokenOf, vocabulary } from "../look.js";

const WORDS = [" girl", " boy", " car"];
const PAIRS = [[0, 1], [0, 2], [1, 2]];

let words = WORDS;

export const embeddings = {
  title: "Embeddings",
  at: ["embedding"],
  text: (model) => [
    `Each token has a row of numbers in a table${model.isKnown ? `, ${model.hidden_size} of them here` : ""}: its embedding. With this row the token enters the model. The numbers were learned with the rest.`,
    "How alike two rows are is told by the angle between them, the cosine: 1 is the same direction. Tokens that occur in like places came to lie in like directions.",
    "The gray band is what two random tokens have, give or take one standard deviation. Only what leaves the band means anything.",
  ],
  formula: () => [{
    tex: String.raw`\cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}`,
    says: "The product of two rows, number by number and added up, over their lengths.",
  }],
  fold: () => ({
    says: "Words of like meaning are close, others have a similarity near zero.",
    is: [
      `Close is right; near zero is not. All rows share a common direction, so two random tokens of a small model often have a cosine far above zero. In SmolLM2-135M “girl” and “boy” have ${FIGURES["girl boy"]}, “girl” and “car” ${FIGURES["girl car"]}, and two random tokens ${FIGURES["random mean"]} ± ${FIGURES["random std"]}: ${FIGURES["girl car"]} is unusually far. With the mean taken away (“centered”) they have ${FIGURES["girl boy centered"]} and ${FIGURES["girl car centered"]}, and random tokens come near zero.`,
      "No Word2Vec is used: the table is learned with the model, by the same task, and it is the only place where a token's own meaning is kept by itself. From the first layer on, vectors depend on the text before.",
    ],
  }),

  async ask({ signal }) {
    const found = await Promise.all(words.map((word) => tokenOf(word, signal)));
    const ids = found.map(({ id }) => id);
    const plain = await vocabulary(ids, { nearest: 6 }, signal);
    const centered = await vocabulary(ids, { nearest: 6, centered: true }, signal);
    return { found, plain, centered };
  },

  draw({ found, plain, centered }, tour) {
    const bands = el("div", {});
    const show = (isCentered) => bands.replaceChildren(...picture(isCentered ? centered : plain));
    show(false);
    const inputs = words.map((word, i) => el("input", {
      value: word, "aria-label": `Word ${i + 1}`, maxlength: 40,
      onchange: ({ target }) => {
        words = words.map((old, j) => (i === j ? target.value || WORDS[i] : old));
        tour.choose({});
      },
    }));
    const cut = found.filter(({ isWhole }) => !isWhole).map(({ name }) => quoted(name));
    const { mean, std } = plain.random_pairs;
    return {
      node: el("div", {}, el("p", { class: "tour-ask" }, "Three tokens; a space in front belongs to them ", ...inputs),
        choice("Cosine", [[false, "as it is"], [true, "centered"]], false, show), bands),
      caption: `${told(plain)} Two random tokens have ${number(mean)} ± ${number(std)}${cut.length ? `. Of a word of several tokens the first is taken: ${cut.join(", ")}` : ""}.`,
      alt: `Cosines of embeddings. ${told(plain)} With the mean taken away: ${told(centered)} Closest to ${plain.tokens.map((one) => `${quoted(one)}: ${one.nearest.map(quoted).join(", ")}`).join("; ")}.`,
    };
  },
};

const told = ({ tokens, cosines }) => `${PAIRS.map(([a, b]) => `${quoted(tokens[a])} and ${quoted(tokens[b])} ${number(cosines[a][b])}`).join(", ")}.`;

function picture({ tokens, cosines, random_pairs: { mean, std } }) {
  const band = [mean - std, mean + std];
  const rows = PAIRS.map(([a, b]) => ({
    name: el("code", {}, `${visible(tokens[a].token)} ${visible(tokens[b].token)}`), value: cosines[a][b], text: number(cosines[a][b]),
  }));
  const near = tokens.map((token) => el("div", {}, el("h4", {}, `Closest to ${quoted(token)}`),
    bars(token.nearest.map(({ token: other, cosine }) => ({ name: el("code", {}, visible(other)), value: cosine, text: number(cosine), kind: "embeddings" })), { band, most: 1 })));
  return [bars(rows, { band, most: 1 }), el("div", { class: "tour-thirds" }, ...near)];
}
