// What the reader has chosen to look at: a layer, a head, a token that asks and one that is looked at.
import { el, visible } from "../dom.js";
import { row } from "./arithmetic.js";
import { inspect } from "./look.js";
import { hasMlp } from "./model.js";

const MAX_TRIED = 4; // heads whose patterns are looked at

/** A head to begin with: of those that look most at the token before, with random tokens, the one that does so most
 * for the token that asks here. Where heads have no scores, the first head of the first layer that attends. */
export async function startingHead(model, { query, key }, ids, signal) {
  const looks = (layer) => !model.design.state_layers.includes(layer);
  const first = Array.from({ length: model.num_layers }, (_, layer) => layer).find(looks) ?? 0;
  try {
    const { previous_token: shares } = (await headScores(model, signal)).kinds;
    const every = shares.flatMap((heads, layer) => heads.map((share, head) => ({ layer, head, share: share ?? 0 }))).filter(({ layer }) => looks(layer));
    const most = every.sort((a, b) => b.share - a.share).slice(0, MAX_TRIED).filter(({ share }) => share >= every[0].share / 2);
    const [layers, heads] = ["layer", "head"].map((name) => [...new Set(most.map((one) => one[name]))]);
    const found = await inspect(ids, { include: ["pattern"], layers, heads, positions: [query] }, signal);
    const weight = ({ layer, head }) => row(found.at(layer).pattern, heads.indexOf(head), 0)[key];
    const { layer, head } = most.reduce((best, one) => (weight(one) > weight(best) ? one : best));
    return { layer, head };
  } catch (error) {
    if (error.status !== 400) throw error;
    return { layer: first, head: 0 };
  }
}

let scored = null; // {model, scores}: of the model alone, whatever the text

export async function headScores({ model }, signal) {
  if (scored?.model !== model) {
    const { head_scores: scores } = await inspect("a", { include: ["head_scores"] }, signal);
    scored = { model, scores };
  }
  return scored.scores;
}

/** The selects of a step: any of layer, head, query, key. */
export function choices(names, tour, model) {
  if (!model.isKnown) return [];
  const numbers = (count) => Array.from({ length: count }, (_, i) => [i, String(i)]);
  const tokens = tour.tokens.map(({ token }, i) => [i, `${i}: ${visible(token)}`]);
  const offered = {
    layer: ["Layer", numbers(model.num_layers).filter(([i]) => !model.design.state_layers.includes(i))],
    mlpLayer: ["Layer", numbers(model.num_layers).filter(([i]) => hasMlp(model, i))],
    head: ["Head", numbers(model.num_heads)],
    query: ["Token that asks", tokens],
    token: ["Token", tokens],
    key: ["Token looked at", tokens.slice(0, tour.chosen.query + 1)],
  };
  const fields = { token: "query" };
  return names.map((name) => {
    const [label, options] = offered[name];
    const field = fields[name] ?? name;
    const select = el("select", { onchange: () => change(field, Number(select.value), tour) },
      ...options.map(([value, says]) => el("option", { value, selected: value === tour.chosen[field] }, says)));
    return el("label", {}, `${label} `, select);
  });
}

/** No token looks ahead: with the one that asks the other comes back too. Steps about heads and those about MLPs look
 * at one layer, if that has both. */
function change(field, value, tour) {
  const { model, chosen } = tour;
  const changes = { [field]: value };
  if (field === "query") changes.key = Math.min(chosen.key, value);
  if (field === "mlpLayer" && !model.design.state_layers.includes(value)) changes.layer = value;
  tour.choose(changes);
}

/** Of a step about MLPs: that of the head, or the next one that has any. */
export function mlpLayerOf(model, { layer, mlpLayer }) {
  if (mlpLayer !== undefined) return mlpLayer;
  const having = Array.from({ length: model.num_layers }, (_, i) => i).filter((i) => hasMlp(model, i));
  return having.find((i) => i >= layer) ?? having.at(-1) ?? layer;
}
