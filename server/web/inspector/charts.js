// The inspector's other views: logit lens, next tokens, contributions, parameters. Data in, nodes out.
import { el, percent, visible } from "../dom.js";

/** Layers down, tokens across; each cell is the best guess there, the stronger the surer.
 * `tell(sentence)` is called with what is pointed at; arrow keys walk from cell to cell. */
export function lens(layers, last, tokens, positions, tell) {
  const names = positions.map((position) => visible(tokens[position].token));
  const head = el("tr", {}, el("th", { scope: "col" }, "layer"), ...names.map((name) => el("th", { scope: "col" }, name)));
  const rows = layers.map((layer) => lensRow(String(layer.layer), layer.logit_lens, names, tell));
  const body = el("tbody", { onkeydown: walk }, ...rows, last ? lensRow("output", last, names, tell) : null);
  body.querySelector("td").tabIndex = 0;
  return el("table", { class: "lens" }, el("thead", {}, head), body);
}

function lensRow(name, guesses, names, tell) {
  const where = name === "output" ? "the model says" : `layer ${name} finds`;
  const cells = guesses.map((found, column) => {
    const best = found.slice(0, 3).map((guess) => `“${visible(guess.token)}” ${percent(Math.exp(guess.logprob))}`).join(", ");
    const say = () => tell(`After “${names[column]}” ${where} ${best}.`);
    const cell = el("td", { tabindex: -1, onpointerenter: say, onfocus: say }, visible(found[0].token));
    cell.style.setProperty("--share", `${Math.round(Math.exp(found[0].logprob) * 100)}%`);
    return cell;
  });
  return el("tr", {}, el("th", { scope: "row" }, name), ...cells);
}

export const EARLY = 100; // an answer that is not among so many guesses is out of sight

/** One more column: `ranks` [layer…, output] of the answer, and the guesses of which it is not one are grey. */
export function addRanks(table, ranks, answer, after, tell) {
  table.tHead.rows[0].append(el("th", { scope: "col", class: "rank" }, `place of ${answer}`));
  [...table.tBodies[0].rows].forEach((row, i) => {
    const place = (ranks[i] + 1).toLocaleString("en");
    const where = row.cells[0].textContent === "output" ? "for the model" : `for layer ${row.cells[0].textContent}`;
    const say = () => tell(`${where[0].toUpperCase()}${where.slice(1)} “${answer}” is no. ${place} of the guesses after “${after}”.`);
    row.append(el("td", { tabindex: -1, class: "rank", onpointerenter: say, onfocus: say }, place));
    if (ranks[i] >= EARLY) [...row.cells].slice(-2).forEach((cell) => cell.classList.add("early"));
  });
}

/** Arrow keys in a table: the next cell gets the focus, and is where Tab comes back to. */
function walk(event) {
  const cell = event.target;
  const row = cell.parentNode;
  const above = { ArrowUp: row.previousSibling, ArrowDown: row.nextSibling }[event.key];
  const beside = { ArrowLeft: cell.previousSibling, ArrowRight: cell.nextSibling }[event.key];
  const next = above ? above.children[cell.cellIndex] : beside;
  if (event.key.startsWith("Arrow")) event.preventDefault();
  if (next?.tagName !== "TD") return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** Bars of the likeliest next tokens; a click goes on with one. */
export function nextTokens(guesses, choose) {
  const shares = guesses.map((guess) => Math.exp(guess.logprob));
  const rest = Math.max(0, 1 - shares.reduce((sum, share) => sum + share, 0));
  const most = Math.max(...shares);
  const rows = guesses.map((guess, i) =>
    el("button", { type: "button", class: "next", title: "Continue the text with this token", onclick: () => choose(guess) },
      el("code", {}, visible(guess.token)), track(shares[i] / most), el("span", { class: "number" }, percent(shares[i]))));
  const others = el("div", { class: "next rest" }, el("span", {}, "all others"), el("span", { class: "number" }, percent(rest)));
  return [...rows, others];
}

function track(share, kind = "") {
  const bar = el("span", { class: `bar ${kind}` });
  bar.style.width = `${100 * share}%`;
  return el("span", { class: "track" }, bar);
}

/** How long the vectors are that attention and MLP add to one token's stream, layer by layer.
 * `tell(sentence)` is called with the layer that is pointed at. */
export function contributions(layers, position, tell) {
  const values = layers.map(({ layer, norms }) => ({
    layer, attention: norms.attn_out[position], mlp: norms.mlp_out[position], stream: norms.resid_post[position],
  }));
  const longest = Math.max(...values.map((v) => Math.max(v.attention, v.mlp)), 1e-9);
  const rows = values.map((v) => {
    const says = `Layer ${v.layer}: attention adds a vector of length ${v.attention.toFixed(2)}, the MLP one of ${v.mlp.toFixed(2)}; the stream is then ${v.stream.toFixed(2)} long.`;
    const bars = el("span", { class: "pair" }, track(v.attention / longest, "back-attention"), track(v.mlp / longest, "back-mlp"));
    return el("li", { "aria-label": says, onpointerenter: () => tell(says) }, el("span", { class: "layer-name" }, String(v.layer)), bars);
  });
  const attention = values.reduce((sum, v) => sum + v.attention, 0);
  const share = attention / values.reduce((sum, v) => sum + v.attention + v.mlp, 0);
  return { node: el("ol", { class: "contributions" }, ...rows), share };
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
  const detail = ({ names }) => {
    const own = names.filter((name) => counts[name]);
    return own.length > 1 ? own.map((name) => `${name} ${millions(counts[name])}`).join(" · ") : "";
  };
  const rows = parts.map((part) => el("tr", {},
    el("th", { scope: "row" }, el("span", { class: `dot back-${part.kind}` }), part.label),
    el("td", {}, millions(part.count)), el("td", {}, percent(part.count / total)), el("td", { class: "quiet-text" }, detail(part))));
  const share = sum(PARTS[0][2]) / (sum(PARTS[0][2]) + sum(PARTS[1][2]) || 1);
  return { nodes: [stack, el("table", { class: "parts" }, el("tbody", {}, ...rows))], share, total };
}

export function millions(count) {
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : count.toLocaleString("en");
}
