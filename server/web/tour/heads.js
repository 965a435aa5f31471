// Every head of every layer: a grid of buttons, and small maps of where each looks.
import { el, rgb } from "../dom.js";
import { row } from "./arithmetic.js";

/** A button for each head; `cell({layer, head})` gives {value 0..1, kind, says}. Arrow keys walk. */
export function grid(model, cell, chosen, choose, label = "Every head of every layer. Arrow keys move.") {
  const layers = Array.from({ length: model.num_layers }, (_, layer) => layer).filter((layer) => !model.design.state_layers.includes(layer));
  const buttons = layers.flatMap((layer) => Array.from({ length: model.num_heads }, (_, head) => button(layer, head, cell({ layer, head }), chosen, choose)));
  const node = el("div", { class: "tour-heads", role: "group", "aria-label": label, onkeydown: walk }, ...buttons);
  node.style.setProperty("--heads", model.num_heads);
  (node.querySelector('[aria-pressed="true"]') ?? buttons[0]).tabIndex = 0;
  return node;
}

function button(layer, head, { value, kind, says }, chosen, choose) {
  const label = `Layer ${layer}, head ${head}: ${says}`;
  const node = el("button", {
    type: "button", class: `tour-head kind-${kind}`, title: label, "aria-label": label, tabindex: -1,
    "aria-pressed": String(layer === chosen.layer && head === chosen.head), onclick: () => choose({ layer, head }),
  });
  node.style.setProperty("--share", `${Math.round(100 * Math.min(1, value))}%`);
  return node;
}

function walk(event) {
  const buttons = [...event.currentTarget.children];
  const width = Number(event.currentTarget.style.getPropertyValue("--heads"));
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();
  const next = buttons[buttons.indexOf(event.target) + move];
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** Small maps of the layers that were looked at; pictures alone, the grid has the buttons. */
export function maps(found, { num_heads: count }, chosen, choose) {
  const color = rgb("--attention");
  const pictures = found.layers.filter(({ pattern }) => pattern.shape[0]).flatMap(({ layer, pattern }) => Array.from({ length: count }, (_, head) => {
    const isChosen = layer === chosen.layer && head === chosen.head;
    const canvas = el("canvas", { class: isChosen ? "tour-thumb chosen" : "tour-thumb", title: `Layer ${layer}, head ${head}`, onclick: () => choose({ layer, head }) });
    paint(canvas, pattern, head, color);
    return canvas;
  }));
  const node = el("div", { class: "tour-maps", "aria-hidden": "true" }, ...pictures);
  node.style.setProperty("--heads", count);
  return node;
}

/** In the color of attention, the stronger the more. */
function paint(canvas, pattern, head, color) {
  const [, height, width] = pattern.shape;
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let query = 0; query < height; query++) {
    row(pattern, head, query).forEach((weight, key) => image.data.set([...color, 255 * Math.sqrt(weight)], 4 * (query * width + key)));
  }
  context.putImageData(image, 0, 0);
}
