// Step 5: where a score comes from. A query and a key, number by number.
import { el, svg, visible } from "../../dom.js";
import { beside, row, scored, sees, sinkOf, sum } from "../arithmetic.js";
import { bars, choice, counted, number, share } from "../draw.js";
import { FIGURES, IN_DEFAULT } from "../figures.js";
import { unturned } from "../look.js";
import { bandOf, groupsOf, isGrouped } from "../model.js";

const BUMP = 5;

export const qkv = {
  title: "Queries, keys, values",
  at: ["qkv"],
  controls: ["layer", "head", "query", "key"],
  text: (model) => [
    "From a token's vector, three matrices make three short ones: a query (what it looks for), a key (what it can be found by) and a value (what it has to give).",
    "A score is the query of the one times the key of the other: number by number, then added up. Each bar is one such product; the line adds them up from left to right.",
    model.isKnown && isGrouped(model) ? `Here query heads share key heads: ${counted(model.num_heads, "set")} of queries on ${groupsOf(model)}. That makes the cache smaller.` : "Every head has matrices of its own.",
    model.design.latent ? `Keys and values of all heads are made of one vector a token, a latent of ${model.design.latent.size} numbers: that is kept, and the part of a key that turns, once for all heads. The server never makes a head's own key: it leads each query to the latents, which comes to the same scores. The keys of this picture are made for it alone.` : "",
    model.design.qk_norm ? "In this model queries and keys are also normed, each by itself, before they are turned: no length runs away." : "",
  ].filter(Boolean),
  formula: ({ design }) => [design.latent ? {
    tex: String.raw`q_m = W_Q\, x_m, \quad c_n = \operatorname{norm}(W_C\, x_n), \quad k_n = W_K\, c_n, \quad v_n = W_V\, c_n`,
    says: "Keys and values are made of the latent c; the part of a key that turns is made of the stream, once for all heads.",
  } : {
    tex: String.raw`q_m = W_Q\, x_m, \quad k_n = W_K\, x_n, \quad v_n = W_V\, x_n`,
    says: "Each matrix has as many rows as a head has numbers, and as many columns as the stream.",
  }],
  fold: ({ design }) => ({
    says: "Negative values mean that two words are unrelated.",
    is: [
      "No. What follows is a softmax, and it sees differences only: add the same number to all scores of a row and nothing changes (try the button). A row of negative scores still gives away 100 % of its weight, most to the least negative one.",
      `${IN_DEFAULT} of ${FIGURES["visible scores"].toLocaleString("en")} scores ${FIGURES["negative scores"].toLocaleString("en")} are negative, and one of them gets ${share(FIGURES["weight of a negative score"])} of its row's weight, where there was a choice.`,
      design.sinks ? "In this model a sink stands beside each row, and the button changes what that takes." : "",
      "Nor do single products mean anything to people: the numbers of a head have no names.",
    ].filter(Boolean),
  }),

  async ask({ chosen, look, model }) {
    const names = unturned(model);
    const turned = model.design.positions === "rotary" ? ["rot_q", "rot_k"] : [];
    const found = await look({ include: [...names, ...turned, "scores", "pattern"], layers: [chosen.layer], heads: [chosen.head] });
    const at = found.at(chosen.layer);
    return { ...at, before: names.map((name) => at[name]), turned: turned.map((name) => at[name]) };
  },

  draw(at, { tokens, chosen, name, model }) {
    const of = (isTurned) => {
      const [queries, keys] = isTurned && at.turned.length ? at.turned : at.before;
      const [query, key] = [row(queries, 0, chosen.query), row(keys, 0, chosen.key)];
      return Array.from(query, (value, i) => value * key[i]);
    };
    const band = bandOf(model, chosen.layer);
    const scores = tokens.map((_, key) => row(at.scores, 0, chosen.query)[key]).filter((__, key) => sees(chosen.query, key, band));
    const score = row(at.scores, 0, chosen.query)[chosen.key];
    const total = sum(of(true));
    const isSeen = sees(chosen.query, chosen.key, band);
    const picture = el("div", {});
    const shown = { isSorted: false, isTurned: true };
    const redraw = () => {
      const products = of(shown.isTurned);
      picture.replaceChildren(productBars(shown.isSorted ? products.sort((a, b) => b - a) : products));
    };
    redraw();
    const toggles = el("div", { class: "tour-controls" }, choice("Order", [[false, "as they stand"], [true, "largest first"]], false, (value) => { shown.isSorted = value; redraw(); }));
    if (at.turned.length && at.before[1].shape[0]) toggles.append(choice("Vectors", [[false, "before turning"], [true, "turned by position"]], true, (value) => { shown.isTurned = value; redraw(); }));
    const first = chosen.query + 1 - scores.length;
    const given = Array.from(row(at.pattern, 0, chosen.query).subarray(first, chosen.query + 1));
    const weights = rowOf(scores, sinkOf(scores, given), tokens.slice(first));
    const every = tokens.flatMap((_, query) => Array.from(row(at.scores, 0, query)).filter((__, key) => sees(query, key, band)));
    const negative = every.filter((value) => value < 0).length;
    const words = isSeen
      ? `${name(chosen.query)} asks ${name(chosen.key)}: ${of(true).length} products add up to ${number(total)}; ${reckoned(total, score, model)}.`
      : `${name(chosen.key)} ${band.isChunk ? `is of another stretch of ${band.size} tokens in this layer` : `has left this layer's window of ${band.size} tokens`}: ${name(chosen.query)} does not ask it.`;
    return {
      node: el("div", {}, toggles, picture, weights),
      caption: `${words} Of this head's ${every.length} scores ${negative} are below zero.`,
      alt: `${words} The largest product is ${number(Math.max(...of(true)))}, the smallest ${number(Math.min(...of(true)))}. Of ${every.length} scores ${negative} are negative.`,
    };
  },
};

/** From the sum of products to the score: what divides it, and what else this model does. */
function reckoned(total, score, { design }) {
  const divided = scored(total, design);
  const said = `divided by ${number(design.score_divisor)}${design.score_softcap ? ` and capped at ${design.score_softcap}` : ""}`;
  if (design.positions !== "alibi") return `${said} that is the score, ${number(score)}`;
  return `${said} that is ${number(divided)}, less ${number(divided - score)} for the distance the score, ${number(score)}`;
}

function productBars(products) {
  const [width, height] = [480, 150];
  const running = products.reduce((list, value) => [...list, (list.at(-1) ?? 0) + value], []);
  const [low, high] = [Math.min(0, ...products, ...running), Math.max(1e-9, ...products, ...running)];
  const y = (value) => height - (height * (value - low)) / (high - low);
  const unit = width / products.length;
  const boxes = products.map((value, i) => svg("rect", {
    x: i * unit + 0.5, width: Math.max(0.5, unit - 1), y: Math.min(y(value), y(0)), height: Math.abs(y(value) - y(0)), class: value < 0 ? "negative" : "positive",
  }));
  const line = svg("polyline", { class: "tour-line line-text", points: running.map((value, i) => `${((i + 0.5) * unit).toFixed(1)},${y(value).toFixed(1)}`).join(" ") });
  return svg("svg", { viewBox: `-4 -4 ${width + 8} ${height + 8}`, class: "tour-lines", role: "img", "aria-label": `${products.length} products and their running sum, ${number(running.at(-1))}` },
    svg("line", { class: "tour-zero", x1: 0, x2: width, y1: y(0), y2: y(0) }), ...boxes, line);
}

/** The row's weights, and a button that adds the same number to all its scores. */
function rowOf(scores, sink, tokens) {
  const picture = el("div", {});
  const show = (added) => {
    const every = scores.map((value) => value + added);
    picture.replaceChildren(bars(beside(sink, every).map((value, i) => ({
      name: el("code", {}, visible(tokens[i].token)), value, text: `${number(every[i])} → ${share(value)}`, kind: "attention",
    })), { most: 1 }));
  };
  show(0);
  let isAdded = false;
  const button = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
    isAdded = !isAdded;
    button.setAttribute("aria-pressed", String(isAdded));
    show(isAdded ? BUMP : 0);
  } }, `Add ${BUMP} to every score of the row`);
  return el("div", {}, el("h4", {}, "The row's scores, and the weights they become"), picture, button);
}
