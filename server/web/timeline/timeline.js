// The scheduler, live: a row for each request, a column for each step of the engine, from /v1/timeline.
// It can be paused, pointed at, saved as JSON Lines and replayed from such a file.
import { $, el, rgb } from "../dom.js";
import { call, ofModel, server, stream } from "../api.js";
import { offer } from "../download.js";

const MAX_STEPS = 4000; // remembered in this tab
const CELL = 11; // width of a step, and of the marks in it, in CSS pixels
const ROW = 15;
const BLOCKS = 60; // heights of the two strips below the rows
const TIME = 60;
const GAP = 14;
const LABEL = 15; // height of a strip's name above its bars
const KINDS = {
  prefill: "reads the prompt",
  cached: "of the prompt, known already",
  decode: "writes the answer",
  queued: "waits",
  preempted: "gave its blocks back",
  inspected: "is looked into",
  finished: "last token",
};
const LIVE = "Live. A column is a step of the engine.";
const PAUSED = "Paused; what happens meanwhile is kept.";
const PAGE = 40; // steps that PageUp and PageDown move

let records = [];
let isPaused = false;
let isReplay = false;
let offset = 0; // steps between the right edge and the newest one
let controller = null;
let frame = 0;
let hovered = null;

export function mount() {
  $("pause").addEventListener("click", () => setPaused(!isPaused));
  $("save-trace").addEventListener("click", save);
  $("open-trace").addEventListener("click", () => $("trace-file").click());
  $("trace-file").addEventListener("change", () => replay($("trace-file").files[0]));
  $("live").addEventListener("click", goLive);
  const canvas = $("steps");
  canvas.addEventListener("pointermove", (event) => point(event.offsetX, event.offsetY));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("wheel", onWheel, { passive: false });
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("blur", () => point(null));
  addEventListener("theme", ask);
  new ResizeObserver(ask).observe($("steps-frame"));
  $("legend").replaceChildren(...Object.entries(KINDS).map(([kind, meaning]) =>
    el("li", {}, el("i", { class: `dot step-${kind}` }), el("b", {}, kind), ` ${meaning}`)));
}

export function show() {
  ask();
  if (!controller && !isReplay && server.model) follow();
}

/** Another model's engine is followed from now on. */
export function restart() {
  hide();
  if (!isReplay) records = [];
}

export function hide() {
  controller?.abort();
  controller = null;
}

// --- where records come from ---

async function follow() {
  const mine = (controller = new AbortController());
  while (controller === mine) {
    try {
      const since = records.length ? records.at(-1).step + 1 : 0;
      if (!isPaused) status(LIVE);
      const response = await call(`/v1/timeline?since=${since}${ofModel()}`, { signal: mine.signal });
      for await (const record of stream(response)) take(record);
      records = []; // that engine is gone: the next one counts from 0
    } catch (error) {
      if (error.name === "AbortError") return;
      status(error.message);
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

function take(record) {
  records.push(record);
  if (records.length > MAX_STEPS) records.splice(0, records.length - MAX_STEPS);
  if (isPaused) offset = Math.min(offset + 1, records.length - 1);
  else ask();
}

function setPaused(paused) {
  isPaused = paused;
  if (!paused) offset = 0;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", String(paused));
  if (!isReplay) status(paused ? PAUSED : LIVE);
  $("step-says").setAttribute("aria-live", paused ? "polite" : "off"); // live, it would never be silent
  ask();
}

function save() {
  const lines = records.map((record) => JSON.stringify(record)).join("\n");
  offer("timeline.jsonl", "application/x-ndjson", lines);
}

/** Plays a saved trace with the pauses it had, a second at the longest. */
async function replay(file) {
  if (!file) return;
  let trace;
  try {
    trace = (await file.text()).split("\n").filter((line) => line.trim()).map((line) => check(JSON.parse(line)));
  } catch (error) {
    status(`This is no saved trace: ${error.message}`);
    return;
  }
  hide();
  isReplay = true;
  $("live").hidden = false;
  $("trace-file").value = "";
  setPaused(false);
  records = [];
  const mine = (controller = new AbortController());
  for (const [i, record] of trace.entries()) {
    if (mine.signal.aborted) return;
    status(`Replaying ${file.name}: step ${i + 1} of ${trace.length}.`);
    take(record);
    const wait = i + 1 < trace.length ? (trace[i + 1].started_at - record.started_at) * 1000 : 0;
    if (wait > 1) await new Promise((wake) => setTimeout(wake, Math.min(wait, 1000)));
    while (isPaused && !mine.signal.aborted) await new Promise((wake) => setTimeout(wake, 100));
  }
}

function check(record) {
  if (!Number.isInteger(record.step) || !Array.isArray(record.rows)) throw new Error("a line is no step");
  return record;
}

function goLive() {
  hide();
  isReplay = false;
  $("live").hidden = true;
  records = [];
  setPaused(false);
  follow();
}

// --- what is drawn ---

function ask() {
  frame ||= requestAnimationFrame(draw);
}

/** The steps in view, and each request in them with its row: the first row that is free again. */
function layout(width) {
  const count = Math.max(1, Math.floor(width / CELL));
  const end = Math.max(records.length - offset, 0);
  const shown = records.slice(Math.max(0, end - count), end);
  const rows = new Map();
  const order = [];
  const see = (id, column) => {
    if (!rows.has(id)) rows.set(id, { id, first: column, last: column, y: -1 });
    rows.get(id).last = column;
  };
  shown.forEach((record, column) => {
    for (const row of record.rows) see(row.request_id, column);
    for (const id of [...(record.preempted ?? []), ...(record.waiting ?? [])]) see(id, column);
    if (record.inspected) see(record.inspected, column);
  });
  for (const row of rows.values()) {
    let y = order.findIndex((last) => last < row.first - 1);
    if (y < 0) y = order.push(0) - 1;
    order[y] = row.last;
    row.y = y;
  }
  return { shown, rows, height: Math.max(order.length, 6) * ROW };
}

function draw() {
  frame = 0;
  if ($("timeline").hidden) return;
  const canvas = $("steps");
  const width = $("steps-frame").clientWidth;
  const view = layout(width);
  const height = view.height + GAP + BLOCKS + GAP + TIME;
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const color = Object.fromEntries([...Object.keys(KINDS), "blocks", "time", "line", "quiet"].map((name) => [name, `rgb(${rgb(name === "line" || name === "quiet" ? `--${name}` : `--step-${name}`)})`]));
  drawRows(context, view, color, width);
  const mostBlocks = Math.max(...view.shown.map(blocksOf), 0);
  drawStrip(context, view, view.height + GAP, BLOCKS, color.blocks, color, `KV blocks in use, up to ${mostBlocks} of ${totalBlocks(view)}`, blocksOf, Math.max(mostBlocks, 1));
  const slowest = Math.max(...view.shown.map((record) => record.total_ms), 1);
  drawStrip(context, view, view.height + GAP + BLOCKS + GAP, TIME, color.time, color, `step time, up to ${slowest.toFixed(1)} ms`, (r) => r.total_ms, slowest);
  if (hovered !== null && hovered.column < view.shown.length) {
    context.strokeStyle = color.quiet;
    context.strokeRect(hovered.column * CELL + 0.5, 0.5, CELL - 1, height - 1);
  }
  describe(view);
}

function drawRows(context, view, color, width) {
  context.strokeStyle = color.line;
  for (let y = ROW; y <= view.height; y += ROW) {
    context.beginPath();
    context.moveTo(0, y - 0.5);
    context.lineTo(width, y - 0.5);
    context.stroke();
  }
  view.shown.forEach((record, column) => {
    const x = column * CELL;
    const cell = (id, kind, inset = 1) => {
      context.fillStyle = color[kind];
      context.fillRect(x + 1, view.rows.get(id).y * ROW + inset + 1, CELL - 2, ROW - 3 - 2 * inset);
    };
    for (const id of record.waiting ?? []) cell(id, "queued", 4);
    for (const id of record.preempted ?? []) cell(id, "preempted");
    if (record.inspected) cell(record.inspected, "inspected");
    for (const row of record.rows) {
      cell(row.request_id, row.kind);
      if (row.num_cached_tokens) {
        context.fillStyle = color.cached;
        context.fillRect(x + 1, view.rows.get(row.request_id).y * ROW + 2, CELL - 2, 5);
      }
    }
    context.fillStyle = color.finished;
    for (const id of record.finished ?? []) {
      if (view.rows.has(id)) context.fillRect(x + CELL - 3, view.rows.get(id).y * ROW + 1, 3, ROW - 3);
    }
  });
}

const blocksOf = (record) => record.num_blocks_used;

function totalBlocks(view) {
  const last = view.shown.at(-1);
  return last ? last.num_blocks_used + last.num_blocks_free : 1;
}

function drawStrip(context, view, top, height, fill, color, label, value, most) {
  context.fillStyle = fill;
  view.shown.forEach((record, column) => {
    const tall = value(record) ? Math.max(1, ((height - LABEL) * value(record)) / most) : 0;
    context.fillRect(column * CELL + 1, top + height - tall, CELL - 2, tall);
  });
  context.strokeStyle = color.line;
  context.beginPath();
  context.moveTo(0, top + height + 0.5);
  context.lineTo(10000, top + height + 0.5);
  context.stroke();
  context.fillStyle = color.quiet;
  context.font = "11px system-ui, sans-serif";
  context.fillText(label, 2, top + 10);
}

function describe(view) {
  const last = view.shown.at(-1);
  $("steps-empty").hidden = Boolean(last);
  if (!last) return;
  $("now-step").textContent = last.step.toLocaleString("en");
  $("now-running").textContent = last.rows.length + (last.num_hidden_rows ?? 0);
  $("now-waiting").textContent = last.num_waiting;
  $("now-blocks").textContent = `${last.num_blocks_used} / ${last.num_blocks_used + last.num_blocks_free}`;
  $("now-time").textContent = `${last.total_ms.toFixed(1)} ms`;
  $("step-says").textContent = hovered ? sentence(view) : "Point at a step to read it, or walk with the arrow keys; Page Up goes back in time.";
}

/** What is under the pointer: the request, then the step. */
function sentence(view) {
  const record = view.shown[hovered.column];
  if (!record) return "";
  const id = [...view.rows.values()].find((row) => row.y === hovered.y && row.first <= hovered.column && hovered.column <= row.last)?.id;
  return [requestSentence(record, id), stepSentence(record)].filter(Boolean).join(" ");
}

function requestSentence(record, id) {
  if (!id) return "";
  if (id === record.inspected) return `${id} looks inside, for ${record.inspect_ms.toFixed(1)} ms.`;
  if (record.waiting?.includes(id)) return `${id} waits for its first step.`;
  if (record.preempted?.includes(id)) return `${id} gave its blocks back and will be computed again.`;
  const row = record.rows.find((other) => other.request_id === id);
  if (!row) return "";
  const guessed = row.kind === "decode" && row.num_tokens > 1 ? ` (${row.num_tokens - 1} guessed)` : "";
  const cached = row.num_cached_tokens ? `, ${row.num_cached_tokens} more were cached` : "";
  const last = record.finished?.includes(id) ? ", its last step" : "";
  return `${id}: ${row.kind}, ${count(row.num_tokens, "token")}${guessed}${cached}${last}.`;
}

function stepSentence(record) {
  const prefills = record.rows.filter((row) => row.kind === "prefill").length;
  const tokens = record.rows.reduce((sum, row) => sum + row.num_tokens, 0);
  const parts = ["schedule", "forward", "sample", "inspect"].filter((part) => record[`${part}_ms`])
    .map((part) => `${part} ${record[`${part}_ms`].toFixed(1)}`);
  return `Step ${record.step}: ${count(tokens, "token")} of ${count(record.rows.length, "request")} (${prefills} prefill)`
    + (record.num_hidden_rows ? ` and ${count(record.num_hidden_rows, "request")} of other keys` : "")
    + ` in ${record.total_ms.toFixed(1)} ms${parts.length ? ` (${parts.join(", ")})` : ""}; ${record.num_waiting} waiting.`;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// --- what people do ---

function point(x, y) {
  hovered = x === null ? null : { column: Math.floor(x / CELL), y: Math.floor(y / ROW) };
  ask();
}

/** Scrolls into the past, or back. */
function move(steps) {
  if (!steps) return;
  if (!isPaused) setPaused(true);
  offset = Math.max(0, Math.min(records.length - 1, offset + steps));
  ask();
}

/** The keyboard's pointer: a step and a row further; at an edge the steps scroll. */
function walk(columns, rows) {
  if (!records.length) return;
  if (!isPaused) setPaused(true);
  const view = layout($("steps").clientWidth);
  const last = view.shown.length - 1;
  const from = hovered ?? { column: last - columns, y: -rows };
  const column = from.column + columns;
  if (column < 0) move(1);
  if (column > last) move(-1);
  const within = (value, most) => Math.max(0, Math.min(most, value));
  hovered = { column: within(column, last), y: within(from.y + rows, view.height / ROW - 1) };
  ask();
}

function onWheel(event) {
  const way = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (!way) return;
  event.preventDefault();
  move(-Math.round(way / CELL));
}

function onKey(event) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const pages = { PageUp: PAGE, PageDown: -PAGE };
  if (event.key === " ") setPaused(!isPaused);
  else if (event.key in pages) move(pages[event.key]);
  else if (event.key in ways) walk(...ways[event.key]);
  else return;
  event.preventDefault();
}

function status(says) {
  $("timeline-status").textContent = says;
}
