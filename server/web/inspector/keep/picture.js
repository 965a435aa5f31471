// The large map as a PNG: its cells, the tokens beside it, and a line that says which head it is of.
import { $, rgb, visible } from "../../dom.js";

const SCALE = 2; // pixels of the picture for one of the page
const MAX_LABELS = 48; // as beside the map
const [SMALL, LARGE] = [420, 720]; // of the map
const EDGE = 16;
const FONT = "ui-monospace, Menlo, Consolas, monospace";

/** -> Blob. */
export async function picture({ state: { layer, head, hidesFirst }, found }) {
  const map = $("large").querySelector("canvas");
  const names = found.start.tokens.length <= MAX_LABELS ? found.start.tokens.map(({ token }) => visible(token)) : [];
  const size = names.length > 20 || !names.length ? LARGE : SMALL;
  const unit = size / found.start.tokens.length;
  const font = Math.max(8, Math.min(13, 0.8 * unit));
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  pen.font = `${font}px ${FONT}`;
  const label = Math.ceil(Math.max(0, ...names.map((name) => pen.measureText(name).width))) + 6;
  const [left, top] = [EDGE + label, EDGE + 44 + label];
  canvas.width = SCALE * (left + size + EDGE);
  canvas.height = SCALE * (top + size + EDGE);
  pen.scale(SCALE, SCALE);
  const color = (name) => `rgb(${rgb(name).join(" ")})`;
  pen.fillStyle = color("--page");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = color("--text");
  pen.font = "600 15px system-ui, sans-serif";
  pen.fillText(`Layer ${layer}, head ${head}`, EDGE, EDGE + 14);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = color("--quiet");
  pen.fillText(`${found.start.model}: attention, queries down, keys across${hidesFirst ? "; the first token is hidden, the rest rescaled" : ""}`, EDGE, EDGE + 32, canvas.width / SCALE - 2 * EDGE);
  pen.font = `${font}px ${FONT}`;
  pen.textBaseline = "middle";
  names.forEach((name, i) => {
    pen.textAlign = "right";
    pen.fillText(name, left - 6, top + (i + 0.5) * unit);
    pen.save();
    pen.translate(left + (i + 0.5) * unit, top - 6);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "left";
    pen.fillText(name, 0, 0);
    pen.restore();
  });
  pen.imageSmoothingEnabled = false;
  pen.drawImage(map, left, top, size, size);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
