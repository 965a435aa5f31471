// The grid of all heads: a row for each layer whose patterns are here, a small map for each head.
import { $, el, percent } from "../dom.js";
import * as kinds from "./kinds.js";
import { paint, thumbnail } from "./pattern.js";
import { displayed } from "./sink.js";

/** Empty, with the heads' numbers above. */
export function begin(numHeads) {
  const numbers = Array.from({ length: numHeads }, (_, i) => el("span", { class: "head-name" }, String(i)));
  $("heads").classList.remove("by-kind");
  $("heads").replaceChildren(el("span", { class: "corner" }, "layer"), ...numbers);
  $("heads").style.setProperty("--heads", numHeads);
}

/** The row of a layer, where its number belongs. */
export function addRow({ layer, pattern }, colors, choose) {
  const thumbs = Array.from({ length: pattern.heads }, (_, head) => thumbnail(displayed(pattern), layer, head, colors, choose));
  const nothing = el("span", { class: "no-heads" }, "no heads that look: it keeps a state, or is an MLP");
  const row = [el("span", { class: "layer-name", "aria-hidden": "true" }, String(layer)), ...(thumbs.length ? thumbs : [nothing])];
  const below = [...$("heads").querySelectorAll(".layer-name")].find((name) => Number(name.textContent) > layer);
  if (below) below.before(...row);
  else $("heads").append(...row);
}

/** Marks the chosen head, which is where Tab stops. */
export function press(layer, head) {
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const isIt = Number(thumb.dataset.layer) === layer && Number(thumb.dataset.head) === head;
    thumb.setAttribute("aria-pressed", String(isIt));
    thumb.tabIndex = isIt ? 0 : -1;
    if (isIt) keepInView(thumb);
  }
  const thumbs = [...$("heads").querySelectorAll(".thumb")];
  if (thumbs.length && !thumbs.some(({ tabIndex }) => tabIndex === 0)) thumbs[0].tabIndex = 0;
}

/** Each says of which kind it is, in its corner and in words. */
export function label() {
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const found = kinds.kindOf(Number(thumb.dataset.layer), Number(thumb.dataset.head));
    if (!found) continue;
    thumb.dataset.kind = found.kind;
    thumb.title = `${thumb.getAttribute("aria-label")}: ${found.name}, ${percent(found.share)}`;
  }
}

/** Where an arrow key leads among heads that are sorted by kind: {layer, head}, or null. */
export function beside(key) {
  const thumbs = [...$("heads").querySelectorAll(".thumb")];
  const width = getComputedStyle($("heads")).gridTemplateColumns.split(" ").length;
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[key];
  const at = thumbs.findIndex((thumb) => thumb === document.activeElement);
  const next = thumbs[at + move];
  return next ? { layer: Number(next.dataset.layer), head: Number(next.dataset.head) } : null;
}

/** Heads that are left out are pale. */
export function dim(edits) {
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const isIt = ({ at, layer, head }) => at === "head" && layer === Number(thumb.dataset.layer) && head === Number(thumb.dataset.head);
    thumb.classList.toggle("off", edits.some(isIt));
  }
}

export function focus() {
  $("heads").querySelector('[aria-pressed="true"]')?.focus();
}

/** In the colors of another theme. */
export function repaint(layers, colors) {
  for (const thumb of $("heads").querySelectorAll(".thumb")) {
    const { layer, head } = thumb.dataset;
    if (layers[layer]?.pattern) paint(thumb.firstChild, displayed(layers[layer].pattern), Number(head), colors);
  }
}

/** Scrolls the grid, and not the page. */
function keepInView(thumb) {
  const frame = $("heads").getBoundingClientRect();
  const box = thumb.getBoundingClientRect();
  const top = frame.top + ($("heads").querySelector(".corner")?.offsetHeight ?? 0);
  if (box.top < top) $("heads").scrollTop -= top - box.top + 4;
  if (box.bottom > frame.bottom) $("heads").scrollTop += box.bottom - frame.bottom + 4;
}
