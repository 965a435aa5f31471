// The inspector's other views: logit lens, next tokens, contributions, parameters. Data in, nodes out.
import { el, percent, svg, visible } from "./dom.js";

/** Layers down, tokens across; each cell is the best guess there, the stronger the surer. */
export function lens(layers, last, tokens, positions) {
  const head = el("tr", {}, el("th", { scope: "col" }, "layer"),
    ...positions.map((position) => el("th", { scope: "col" }, visible(tokens[position].token))));
  const rows = layers.map((layer) => lensRow(String(layer.layer), layer.logit_lens));
  const body = el("tbody", {}, ...rows, last ? lensRow("output", last) : null);
  return el("table", { class: "lens" }, el("thead", {}, head), body);
}

function lensRow(name, guesses) {
  const cells = guesses.map((found) => {
    const share = Math.exp(found[0].logprob);
    const title = found.map((guess) => `${visible(guess.token)}  ${percent(Math.exp(guess.logprob))}`).join("\n");
    const cell = el("td", { title, tabindex: -1 }, visible(found[0].token));
    cell.style.setProperty("--share", `${Math.round(share * 100)}%`);
    return cell;
  });
  return el("tr", {}, el("th", { scope: "row" }, name), ...cells);
}

/** Bars of the likeliest next tokens; a click goes on with one. */
export function nextTokens(guesses, choose) {
  const top = Math.exp(guesses[0].logprob);
  return guesses.map((guess) => {
    const share = Math.exp(guess.logprob);
    const bar = el("span", { class: "bar" });
    bar.style.width = `${(100 * share) / top}%`;
    return el("button", { type: "button", class: "next", title: "Continue the text with this token", onclick: () => choose(guess) },
      el("code", {}, visible(guess.token)), el("span", { class: "track" }, bar), el("span", { class: "number" }, percent(share)));
  });
}

const ROW = 9; // height of a layer, in units of the picture, which is WIDTH wide
const WIDTH = 480;

/** How long the vectors are that attention and MLP add to one token's stream, layer by layer. */
export function contributions(layers, position) {
  const values = layers.map(({ layer, norms }) => ({
    layer, attention: norms.attn_out[position], mlp: norms.mlp_out[position], stream: norms.resid_post[position],
  }));
  const longest = Math.max(...values.map((v) => Math.max(v.attention, v.mlp)), 1e-9);
  const bars = values.flatMap((v, i) => [
    bar(i * ROW + 0.8, v.attention / longest, "attention", `Layer ${v.layer}: attention adds a vector of length ${v.attention.toFixed(2)}`),
    bar(i * ROW + 4.6, v.mlp / longest, "mlp", `Layer ${v.layer}: the MLP adds a vector of length ${v.mlp.toFixed(2)}; the stream is then ${v.stream.toFixed(2)} long`),
    svg("text", { x: 16, y: i * ROW + 7, class: "tick" }, String(v.layer)),
  ]);
  const attention = values.reduce((sum, v) => sum + v.attention, 0);
  const share = attention / values.reduce((sum, v) => sum + v.attention + v.mlp, 0);
  const picture = svg("svg", { class: "contributions", viewBox: `0 0 ${WIDTH} ${values.length * ROW}`, role: "img",
    "aria-label": `Contributions of ${values.length} layers; attention's share of all lengths is ${percent(share)}` }, ...bars);
  return { picture, share };
}

function bar(y, share, kind, title) {
  return svg("rect", { x: 20, y, width: (share * (WIDTH - 22)).toFixed(1), height: 3.5, rx: 1, class: `fill-${kind}` }, svg("title", {}, title));
}

const PARTS = [
  ["attention", "attention", ["query", "key", "value", "output"]],
  ["MLP", "mlp", ["mlp"]],
  ["embeddings", "embeddings", ["embeddings", "positions", "head"]],
  ["norms", "norms", ["norms"]],
];

/** One bar of all weights, and a line for each part. */
export function parameters(counts) {
  const sum = (names) => names.reduce((all, name) => all + (counts[name] ?? 0), 0);
  const total = sum(Object.keys(counts)) || 1;
  const parts = PARTS.map(([label, kind, names]) => ({ label, kind, names, count: sum(names) }));
  const stack = el("div", { class: "stack", role: "img", "aria-label": parts.map((p) => `${p.label} ${percent(p.count / total)}`).join(", ") },
    ...parts.map((part) => {
      const piece = el("span", { class: `back-${part.kind}`, title: `${part.label}: ${part.count.toLocaleString("en")}` });
      piece.style.flexGrow = String(part.count);
      return piece;
    }));
  const detail = ({ names }) => names.filter((name) => counts[name] && names.length > 1)
    .map((name) => `${name} ${millions(counts[name])}`).join(" · ");
  const rows = parts.map((part) => el("tr", {},
    el("th", { scope: "row" }, el("span", { class: `dot back-${part.kind}` }), part.label),
    el("td", {}, millions(part.count)), el("td", {}, percent(part.count / total)), el("td", { class: "quiet-text" }, detail(part))));
  const share = sum(PARTS[0][2]) / (sum(PARTS[0][2]) + sum(PARTS[1][2]) || 1);
  return { nodes: [stack, el("table", { class: "parts" }, el("tbody", {}, ...rows))], share, total };
}

export function millions(count) {
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : count.toLocaleString("en");
}
