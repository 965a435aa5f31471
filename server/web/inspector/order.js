// The heads in the order of what they do: those of one kind that do it most, each with its map and its share.
import { $, el, percent } from "../dom.js";
import * as kinds from "./kinds.js";
import { thumbnail } from "./pattern.js";
import { displayed } from "./sink.js";

const MOST = 36; // the rest do next to nothing of it

/** `again()` draws the heads anew, in the order that is chosen. */
export function mount(again) {
  const options = [["", "layer"], ...kinds.NAMES].map(([kind, name]) => el("option", { value: kind }, name));
  $("order").replaceChildren(...options);
  $("order").addEventListener("change", again);
}

/** The kind that is sorted by; "": by layer. */
export const kind = () => (kinds.areKnown() ? $("order").value : "");

/** Fills the grid with heads of the chosen kind, the most telling first. */
export function draw(layers, colors, choose) {
  const nodes = kinds.ranked(kind()).slice(0, MOST).map(({ layer, head, share }) => {
    const pattern = layers[layer]?.pattern;
    const map = pattern ? thumbnail(displayed(pattern), layer, head, colors, choose) : unread(layer, head, choose);
    return el("span", { class: "ranked" }, map, el("small", { "aria-hidden": "true" }, `${layer}.${head}`), el("small", { "aria-hidden": "true" }, percent(share)));
  });
  $("heads").classList.add("by-kind");
  $("heads").replaceChildren(...nodes);
}

/** A head whose pattern comes when it is chosen. */
function unread(layer, head, choose) {
  const label = `Layer ${layer}, head ${head}`;
  return el("button", {
    type: "button", class: "thumb unread", "aria-label": label, "aria-pressed": "false", "data-layer": layer, "data-head": head,
    tabindex: -1, onclick: () => choose(layer, head),
  }, "…");
}
