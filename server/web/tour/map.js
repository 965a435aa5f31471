// The small map: one block of the served model, and what stands before and behind all of them. The parts a
// step is about light up.
import { svg } from "../dom.js";

const [WIDTH, BOX, GAP] = [168, 18, 6];

/** [id, name] of each part of this model, downwards; `block` marks those that every layer has. */
function partsOf({ design, isKnown }) {
  const isRotary = !isKnown || design.positions === "rotary";
  const positions = { rotary: "turned by position", learned: "+ position", alibi: "less by distance" }[design.positions] ?? "position";
  const before = design.pre_norm === false ? [] : [["norm", "norm"]];
  const behind = design.post_norm ? [["norm", "norm"]] : [];
  const mlp = design.experts ? [["mlp", "router, experts"]] : [["mlp", "MLP"]];
  return [
    [["tokens", "tokens"], ["embedding", "embeddings"], ...(isRotary ? [] : [["position", positions]])],
    [
      ...before, ["qkv", design.qk_norm ? "Q, K normed, V" : "Q, K, V"], ...(isRotary ? [["position", positions]] : []),
      ["scores", "scores of pairs"], ["mask", design.windows?.length ? "mask, window" : design.chunks?.length ? "mask, stretches" : "mask"], ["softmax", "softmax"],
      ["values", "sum of values"], ["heads", "heads together"], ...behind, ["add", "+ to the stream"], ...before, ...mlp, ...behind, ["add", "+ to the stream"],
    ],
    [["norm", "norm"], ["next", "next token"]],
  ];
}

/** `lit` names parts; "stream" is the line through all of them, "layers" the frame. */
export function map(model, lit) {
  const groups = partsOf(model);
  const picture = svg("svg", { class: "tour-map", "aria-hidden": "true" });
  const nodes = [];
  let y = 4;
  const box = ([id, name], indent) => {
    const kind = lit.includes(id) ? "part lit" : "part";
    nodes.push(svg("g", { class: kind },
      svg("rect", { x: 26 + indent, y, width: WIDTH - 48 - 2 * indent, height: BOX, rx: 5 }),
      svg("text", { x: 26 + (WIDTH - 48) / 2, y: y + 13, "text-anchor": "middle" }, name)));
    y += BOX + GAP;
  };
  groups[0].forEach((part) => box(part, 0));
  const top = y + 2;
  y += 10;
  groups[1].forEach((part) => box(part, 4));
  const bottom = y + 2;
  y += 12;
  groups[2].forEach((part) => box(part, 0));
  const { num_layers: count, design: { state_layers: others } } = model; // a block of those that have heads
  const times = model.isKnown ? `× ${others.length ? `${count - others.length} of ` : ""}${count} layers` : "× layers";
  const isLit = (name) => (lit.includes(name) ? " lit" : "");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${y}`);
  picture.append(
    svg("rect", { class: `frame${isLit("layers")}`, x: 20, y: top, width: WIDTH - 36, height: bottom - top, rx: 8 }),
    svg("path", { class: `stream${isLit("stream")}`, d: `M10,8 V${y - 10} m-4,-7 l4,7 l4,-7` }),
    svg("text", { class: `times${isLit("layers")}`, transform: `translate(${WIDTH - 12} ${(top + bottom) / 2}) rotate(90)`, "text-anchor": "middle" }, times),
    ...nodes,
  );
  return picture;
}
