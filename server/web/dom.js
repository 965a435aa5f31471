// Builds nodes from data. Text always becomes a text node, so nothing a model says can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** el("button", {class: "quiet", onclick: f, disabled: true}, "Copy", node…) -> an HTML element. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** The color a CSS variable has just now, as [r, g, b]. */
export function rgb(name) {
  const probe = el("span", { class: "probe" });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return found.slice(0, 3);
}

/** A token as people can see it: spaces, line ends and control characters are marked. */
export function visible(text) {
  if (text === "") return "∅";
  return text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥")
    .replace(/[\x00-\x1f]/g, (letter) => String.fromCharCode(0x2400 + letter.charCodeAt(0)))
    .replace(/\s|[\x7f-\xa0\u200b-\u200f\ufeff]/g, "␣");
}

export function percent(share) {
  const value = share * 100;
  return value >= 9.95 ? `${value.toFixed(0)} %` : `${value.toFixed(1)} %`;
}

/** A number as people read it: 1.0, 0.0081, 3.4e-7. */
export function short(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toPrecision(2);
}
