// One token dragged onto another: by mouse or pen at once, by a finger once it has rested on the token, as it
// scrolls the page else.
import { $ } from "../../dom.js";

const MOVED = 6; // pixels: less is a click
const HOLD = 350; // ms that a finger rests
const EDGE = 56; // pixels from the page's edge in which it scrolls along
const STEP = 9; // pixels a frame

const page = $("inspector"); // what scrolls
const tokenAt = (node) => node?.closest?.("#tokens [data-index], .beside-tokens [data-index]");
const fromOf = (node) => node.dataset.from ?? "text";

let start = null; // {node, x, y, isHeld, timer}, from the press on
let target = null;
let last = null; // {x, y} of the pointer while it drags

/** `make(from, source, target)` hears of a token of a text ("text" or "beside") that was put onto one of the text. */
export function mount(make) {
  page.addEventListener("pointerdown", press);
  addEventListener("pointermove", move);
  addEventListener("pointerup", () => {
    if (start && target) make(fromOf(start.node), Number(start.node.dataset.index), Number(target.dataset.index));
    end();
  });
  addEventListener("pointercancel", end);
  addEventListener("keydown", (event) => event.key === "Escape" && end());
  const hold = (event) => last && event.preventDefault();
  page.addEventListener("touchmove", hold, { passive: false }); // the page stays where it is
  page.addEventListener("contextmenu", hold); // which a resting finger asks for
}

function press(event) {
  const node = tokenAt(event.target);
  if (!node || event.button !== 0) return;
  const isTouch = event.pointerType === "touch";
  start = { node, x: event.clientX, y: event.clientY, isHeld: !isTouch };
  if (isTouch) start.timer = setTimeout(lift, HOLD);
}

/** The finger has rested: the token comes along. */
function lift() {
  start.isHeld = true;
  begin(start);
}

function begin({ x, y }) {
  start.node.classList.add("dragged");
  last = { x, y };
  requestAnimationFrame(scroll);
}

function move({ clientX: x, clientY: y }) {
  if (!start) return;
  if (!last) {
    if (Math.hypot(x - start.x, y - start.y) < MOVED) return;
    if (!start.isHeld) return end(); // it scrolls
    begin({ x, y });
  }
  last = { x, y };
  look();
}

/** What the pointer is over becomes the target, if a token can be put there. */
function look() {
  const over = tokenAt(document.elementFromPoint(last.x, last.y));
  onto(over && over !== start.node && fromOf(over) === "text" ? over : null);
}

function onto(node) {
  target?.classList.remove("drop");
  target = node;
  target?.classList.add("drop");
}

/** Near the upper or the lower edge the page comes along. */
function scroll() {
  if (!last) return;
  const { top, bottom } = page.getBoundingClientRect();
  const by = (last.y > bottom - EDGE) * STEP - (last.y < top + EDGE) * STEP;
  if (by) {
    page.scrollTop += by;
    look();
  }
  requestAnimationFrame(scroll);
}

function end() {
  clearTimeout(start?.timer);
  start?.node.classList.remove("dragged");
  start = last = null;
  onto(null);
}
