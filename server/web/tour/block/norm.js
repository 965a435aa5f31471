// Step 11: before a part reads the stream, the numbers of each token are brought to one size.
import { el, svg } from "../../dom.js";
import { layerNorm, rmsNorm, row, stats } from "../arithmetic.js";
import { choice, lines, number } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { NORMS } from "../model.js";

export const norm = {
  title: "The norm",
  at: ["norm"],
  controls: ["mlpLayer", "token"],
  text: (model) => [
    "A token's vector grows from layer to layer. Before attention or the MLP reads it, its numbers are divided by their usual size, so that each part always reads numbers of about one.",
    {
      rms_norm: "This model divides by the root mean square (RMSNorm): no mean is taken away, as it would change hardly anything.",
      layer_norm: "This model takes the mean away and divides by the standard deviation (LayerNorm).",
    }[model.design.norm] ?? "Some models take the mean away first (LayerNorm), newer ones do not (RMSNorm).",
    "Then each number is multiplied by one learned for its place. The stream itself stays as it is: the part reads a copy.",
    model.design.pre_norm === false ? "In this model the norm stands behind attention and MLP instead: what they add is normed, not what they read." : "",
  ].filter(Boolean),
  formula: (model) => [
    model.design.norm === "layer_norm"
      ? { tex: String.raw`y_i = \gamma_i \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta_i`, says: "μ and σ are mean and standard deviation over the numbers of this one token." }
      : { tex: String.raw`y_i = \gamma_i \frac{x_i}{\sqrt{\frac{1}{d}\sum_j x_j^2 + \varepsilon}}`, says: "The sum runs over the numbers of this one token; ε keeps it from dividing by nothing." },
  ],
  fold: () => ({
    says: "Before the MLP the mean and the variance of the features in each training input are normalized.",
    is: [
      "Over the features of one token, each token by itself: nothing of other tokens, of a batch or of the training set enters.",
      `${IN_DEFAULT} what the MLP of layer 15 reads at the last token has a mean of ${FIGURES["layer 15 mean"]}, a root mean square of ${FIGURES["layer 15 rms"]} and a standard deviation of ${FIGURES["layer 15 std"]}: to take the mean away would change hardly anything. The first token's vector grows from ${FIGURES["first token before layer 0"]} to ${FIGURES["first token at its longest"].toLocaleString("en")}; the last one's is ${FIGURES["last token before layer 12"]} long before layer 12.`,
      "In GPT-2, GPT-3 and most models since, a norm stands before attention and before the MLP of each layer, and once more before the head.",
    ],
  }),

  ask: async ({ chosen, look, model }) => {
    const places = [...new Set([0, chosen.query])];
    const parts = await look({ include: ["resid_mid", "norm_stats"], layers: [chosen.layer], positions: places });
    const layers = Array.from({ length: model.num_layers }, (_, layer) => layer);
    const lengths = await look({ include: ["norms"], layers, positions: places });
    return { at: parts.at(chosen.layer), lengths, place: places.indexOf(chosen.query) };
  },

  draw({ at, lengths, place }, { chosen, model, name }) {
    const x = row(at.resid_mid, place);
    const own = stats(x);
    const eps = model.design.norm_eps;
    const normed = { none: x, rms: rmsNorm(x, eps), layer: layerNorm(x, eps) };
    const usual = model.design.norm === "layer_norm" ? "layer" : "rms";
    const picture = el("div", {});
    const show = (which) => picture.replaceChildren(comb(normed[which]));
    show("none");
    const far = Math.max(...normed.rms.map((value, i) => Math.abs(value - normed.layer[i])));
    const grown = lengths.layers.map(({ norms }) => norms.resid_post);
    const read = model.design.pre_norm === false ? "stands in the stream before the MLP" : "the MLP reads";
    const words = `${name(chosen.query)} in layer ${chosen.layer}: what ${read} has a mean of ${number(own.mean)}, a root mean square of ${number(own.rms)}, a standard deviation of ${number(own.std)}. RMSNorm and LayerNorm would differ by at most ${number(far)} in any of its ${x.length} numbers.`;
    const sizes = (i) => grown.map((list) => Math.log10(Math.max(1, list[i])));
    const curves = [{ name: `${name(chosen.query)}`, kind: "mlp", values: sizes(place) }];
    if (place > 0) curves.push({ name: `${name(0)}, the first`, kind: "attention", values: sizes(0) });
    return {
      node: el("div", {}, choice("Show", [["none", "as it comes"], ["rms", NORMS.rms_norm], ["layer", NORMS.layer_norm]], "none", show), picture,
        el("h4", {}, "How long the vectors become"),
        lines(curves, { isTenfold: true, label: "Length of the stream by layer", across: ["layer 0", `layer ${grown.length - 1}`] })),
      caption: words,
      alt: `A bar for each of ${x.length} numbers, before and after the norm (${NORMS[model.design.norm] ?? usual}). ${words} The stream of ${name(chosen.query)} is ${number(grown[0][place])} long after the first layer and ${number(grown.at(-1)[place])} after the last; that of the first token is at most ${number(Math.max(...grown.map((list) => list[0])))}.`,
    };
  },
};

/** A thin bar for each number. */
function comb(x) {
  const [width, height] = [576, 110];
  const most = Math.max(1e-9, ...Array.from(x, Math.abs));
  const unit = width / x.length;
  const path = Array.from(x, (value, i) => `M${((i + 0.5) * unit).toFixed(2)},${height / 2} v${((-value / most) * (height / 2)).toFixed(2)}`).join("");
  const { mean, rms, std } = stats(x);
  return el("div", {},
    svg("svg", { class: "tour-comb", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${x.length} numbers, the farthest from 0 at ${number(most)}` }, svg("path", { d: path, "stroke-width": Math.max(0.4, unit * 0.7) })),
    el("p", { class: "note" }, `The farthest from 0: ${number(most)}; mean ${number(mean)}, root mean square ${number(rms)}, standard deviation ${number(std)}.`));
}
