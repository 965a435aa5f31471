// The grid of all heads: a row for each layer whose patterns are here, a small map for each head.
import { $, el } from "../dom.js";
import { paint, thumbnail } from "./pattern.js";

/** Empty, with the heads' numbers above. */
export function begin(numHeads) {
  const numbers = Array.from({ length: numHeads }, (_, i) => el("span", { class: "head-name" }, String(i)));
  $("heads").replaceChildren(el("span", { class: "corner" }, "layer"), ...numbers);
  $("heads").style.setProperty("--heads", numHeads);
}

/** The row of a layer, where its number belongs. */
export function addRow({ layer, pattern }, colors, choose) {
  const thumbs = Array.from({ length: pattern.heads }, (_, head) => thumbnail(pattern, layer, head, colors, choose));
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
    paint(thumb.firstChild, layers[layer].pattern, Number(head), colors);
  }
}

/** Scrolls the grid, and not the page. */
function keepInView(thumb) {
  const frame = $("heads").getBoundingClientRect();
  const box = thumb.getBoundingClientRect();
  const top = frame.top + $("heads").firstElementChild.offsetHeight;
  if (box.top < top) $("heads").scrollTop -= top - box.top + 4;
  if (box.bottom > frame.bottom) $("heads").scrollTop += box.bottom - frame.bottom + 4;
}
