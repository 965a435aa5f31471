// Pictures that several steps draw: a square of cells, rows of bars, a line. Data in, nodes out.
import { el, svg, visible } from "../dom.js";

const MAX_NAMES = 18; // beside a square, in letters that everybody can read

/** A number as a caption has it: three digits that count. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const size = Math.abs(value);
  if (size >= 1000) return signed(Math.round(value).toLocaleString("en"));
  if (size !== 0 && size < 0.001) return signed(value.toExponential(1));
  return signed(Number(value.toPrecision(digits)).toString());
}

const signed = (text) => text.replace(/^-/, "−").replace("e-", "e−");

export const share = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

/** A token in quotes, as people can see it. */
export const quoted = (token) => `“${visible(token.token ?? token)}”`;

/** One thing of several, in words. */
export const counted = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

/** Bars: [{name, value, text, kind?, onclick?, says?, isPressed?}], to the right and, where some are negative,
 * to the left; `band` [from, to] is shaded behind each. */
export function bars(rows, { band = null, most = null } = {}) {
  const values = rows.flatMap(({ value }) => value);
  const low = Math.min(0, ...values, ...(band ?? []));
  const high = most ?? Math.max(1e-9, ...values, ...(band ?? []));
  const place = (value) => Math.max(0, Math.min(100, (100 * (value - low)) / (high - low || 1)));
  const line = ({ name, value, text, kind = "accent", onclick, isPressed, says }) => {
    const track = el("span", { class: "tour-track" });
    if (band) track.append(piece("tour-band", place(band[0]), place(band[1])));
    track.append(piece(`tour-bar back-${kind}`, place(Math.min(0, value)), place(Math.max(0, value))));
    const parts = [el("span", { class: "tour-name" }, name), track, el("span", { class: "tour-number" }, text)];
    if (!onclick) return el("li", { class: "tour-row", title: says }, ...parts);
    const pressed = isPressed === undefined ? null : String(isPressed);
    return el("li", {}, el("button", { type: "button", class: "tour-row", onclick, title: says, "aria-pressed": pressed }, ...parts));
  };
  const node = el("ol", { class: "tour-bars" }, ...rows.map(line));
  node.style.setProperty("--number", `${Math.max(...rows.map(({ text }) => text.length)) + 1}ch`);
  return node;
}

function piece(kind, from, to) {
  const node = el("span", { class: kind });
  node.style.left = `${from}%`;
  node.style.width = `${Math.max(to - from, 0.4)}%`;
  return node;
}

/** A square of cells, queries down and keys across. `cell(query, key)` gives {value -1..1, isHidden?, text};
 * `tell(query, key)` hears what is pointed at, by pointer or by arrow keys. */
export function square({ tokens, rows = tokens, cell, label, tell = () => {}, marked = null, isTurned = false }) {
  const unit = 10;
  const flat = rows.length > 1.5 * tokens.length ? (unit * tokens.length) / rows.length : unit; // of many rows each is low
  const picture = svg("svg", { viewBox: `0 0 ${tokens.length * unit} ${rows.length * flat}`, class: "tour-cells", role: "img", tabindex: 0, "aria-label": label });
  for (const [i, j] of pairs(rows.length, tokens.length)) {
    const [query, key] = isTurned ? [j, i] : [i, j];
    const { value, isHidden, text } = cell(query, key);
    const box = { x: j * unit, y: i * flat, width: unit, height: flat };
    const kind = value < 0 ? "negative" : "positive";
    picture.append(svg("g", { "data-query": query, "data-key": key },
      svg("rect", { ...box, class: "tour-ground" }),
      svg("rect", { ...box, class: kind, "fill-opacity": Math.min(1, Math.abs(value)).toFixed(3) }),
      isHidden ? svg("rect", { ...box, class: "tour-hidden" }) : null,
      svg("title", {}, text)));
  }
  const frame = svg("rect", { width: unit, height: flat, class: "tour-mark", visibility: "hidden" });
  picture.append(frame);
  let at = marked ?? [0, 0];
  const point = (query, key, isTold = true) => {
    at = [query, key];
    const [i, j] = isTurned ? [key, query] : [query, key];
    frame.setAttribute("x", j * unit);
    frame.setAttribute("y", i * flat);
    frame.setAttribute("visibility", "visible");
    if (isTold) tell(query, key);
  };
  const under = (event) => event.target.closest("g");
  const take = (event) => under(event) && point(Number(under(event).dataset.query), Number(under(event).dataset.key));
  picture.addEventListener("pointerover", take);
  picture.addEventListener("pointerdown", take);
  picture.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    const [dq, dk] = isTurned ? [move[1], move[0]] : move;
    const within = (value, count) => Math.max(0, Math.min(count - 1, value));
    point(within(at[0] + dq, isTurned ? tokens.length : rows.length), within(at[1] + dk, isTurned ? rows.length : tokens.length));
  });
  if (marked) point(...marked, false);
  const every = rows.length > MAX_NAMES ? 5 : 1; // a name for each, or for some
  const named = rows.map((one, i) => (i % every ? { token: "" } : one));
  const names = (list, kind) => el("div", { class: `tour-labels ${kind}`, "aria-hidden": "true" }, ...list.map(({ token }) => el("span", {}, token && visible(token))));
  const size = tokens.length > MAX_NAMES ? " tight" : "";
  const node = el("div", { class: `tour-square${size}` }, names(tokens, "across"), names(rows === tokens ? tokens : named, "down"), picture);
  return { node, point };
}

function* pairs(height, width) {
  for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) yield [i, j];
}

/** Lines over whole numbers: [{name, kind, values}], with what each end of the axis says. `isTenfold`: values are
 * logarithms, and the height of each whole one is marked. */
export function lines(curves, { label, across, mark = null, isTenfold = false }) {
  const [width, height] = [480, 150];
  const every = curves.flatMap(({ values }) => values).filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...every), Math.max(1e-9, ...every)];
  const count = Math.max(...curves.map(({ values }) => values.length));
  const x = (i) => (width * i) / Math.max(1, count - 1);
  const y = (value) => height - (height * (value - low)) / (high - low);
  const paths = curves.map(({ values, kind }) => svg("polyline", {
    class: `tour-line line-${kind}`, points: values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
  }));
  const zero = svg("line", { class: "tour-zero", x1: 0, x2: width, y1: y(0), y2: y(0) });
  const steps = isTenfold ? Array.from({ length: Math.floor(high) }, (_, i) => i + 1) : [];
  const tenfold = steps.flatMap((step) => [
    svg("line", { class: "tour-zero", x1: 0, x2: width, y1: y(step), y2: y(step) }),
    svg("text", { class: "tour-tick", x: width, y: y(step) - 2, "text-anchor": "end" }, (10 ** step).toLocaleString("en")),
  ]);
  const at = mark === null ? null : svg("line", { class: "tour-here", x1: x(mark), x2: x(mark), y1: 0, y2: height });
  const picture = svg("svg", { viewBox: `-6 -6 ${width + 12} ${height + 12}`, class: "tour-lines", role: "img", "aria-label": label }, zero, ...tenfold, at, ...paths);
  const key = el("p", { class: "tour-key" }, ...curves.map(({ name, kind }) => el("span", {}, el("i", { class: `back-${kind}` }), name)));
  const ends = el("p", { class: "tour-ends" }, el("span", {}, across[0]), el("span", {}, across[1]));
  return el("div", {}, key, picture, ends);
}

/** Buttons of which one is pressed: [[value, name], …]. */
export function choice(label, options, value, pick) {
  const buttons = options.map(([one, name]) => el("button", {
    type: "button", "aria-pressed": String(one === value),
    onclick: () => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i][0] === one)));
      pick(one);
    },
  }, name));
  return el("div", { class: "tour-choice", role: "group", "aria-label": label }, ...buttons);
}

/** A slider with its value beside it. */
export function slider(label, { min, max, step, value, text = String }, move) {
  const out = el("output", {}, text(value));
  const input = el("input", { type: "range", min, max, step, value, oninput: () => {
    out.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", out.textContent);
    move(Number(input.value));
  } });
  return el("label", { class: "tour-slider" }, label, input, out);
}

export function table(titles, rows, label) {
  const head = el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)));
  const body = rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell))));
  const node = el("table", { class: "tour-table", "aria-label": label }, el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { class: "wide" }, node);
}
