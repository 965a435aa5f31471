// The scheduler, live: a row for each request, a column for each step of the engine, from /v1/timeline.
// It can be paused, pointed at, saved as JSON Lines and replayed from such a file.
import { $, el, rgb } from "./dom.js";
import { call, server, stream } from "./api.js";

const MAX_STEPS = 4000; // remembered in this tab
const CELL = 11; // width of a step, and of the marks in it, in CSS pixels
const ROW = 15;
const BLOCKS = 60; // heights of the two strips below the rows
const TIME = 60;
const GAP = 14;
const LABEL = 15; // height of a strip's name above its bars
const KINDS = ["prefill", "decode", "cached", "queued", "preempted", "finished"];

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
  addEventListener("theme", ask);
  new ResizeObserver(ask).observe($("steps-frame"));
  $("legend").replaceChildren(...KINDS.map((kind) => el("span", {}, el("i", { class: `dot step-${kind}` }), kind)));
}

export function show() {
  ask();
  if (!controller && !isReplay && server.model) follow();
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
      status("Live. A column is a step of the engine.");
      const response = await call(`/v1/timeline?since=${since}`, { signal: mine.signal });
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
  ask();
}

function save() {
  const lines = records.map((record) => JSON.stringify(record)).join("\n");
  const link = el("a", { href: URL.createObjectURL(new Blob([lines], { type: "application/x-ndjson" })), download: "timeline.jsonl" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
  const color = Object.fromEntries([...KINDS, "blocks", "time", "line", "quiet"].map((name) => [name, `rgb(${rgb(name === "line" || name === "quiet" ? `--${name}` : `--step-${name}`)})`]));
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
  $("now-running").textContent = last.rows.length;
  $("now-waiting").textContent = last.num_waiting;
  $("now-blocks").textContent = `${last.num_blocks_used} / ${last.num_blocks_used + last.num_blocks_free}`;
  $("now-time").textContent = `${last.total_ms.toFixed(1)} ms`;
  $("step-says").textContent = hovered ? sentence(view) : "Point at a step to read it. Scroll or use the arrow keys to go back.";
}

function sentence(view) {
  const record = view.shown[hovered.column];
  if (!record) return "";
  const row = record.rows.find((other) => view.rows.get(other.request_id).y === hovered.y);
  const kinds = record.rows.filter((other) => other.kind === "prefill");
  const tokens = record.rows.reduce((sum, other) => sum + other.num_tokens, 0);
  const step = `Step ${record.step}: ${tokens} tokens of ${record.rows.length} requests (${kinds.length} prefill) in ${record.total_ms.toFixed(1)} ms`
    + ` (schedule ${record.schedule_ms.toFixed(1)}, forward ${record.forward_ms.toFixed(1)}, sample ${record.sample_ms.toFixed(1)}); ${record.num_waiting} waiting.`;
  if (!row) return step;
  const cached = row.num_cached_tokens ? `, ${row.num_cached_tokens} more were cached` : "";
  return `${row.request_id}: ${row.kind}, ${row.num_tokens} tokens${cached}. ${step}`;
}

// --- what people do ---

function point(x, y) {
  hovered = x === null ? null : { column: Math.floor(x / CELL), y: Math.floor(y / ROW) };
  ask();
}

function move(steps) {
  if (!steps) return;
  if (!isPaused) setPaused(true);
  offset = Math.max(0, Math.min(records.length - 1, offset + steps));
  ask();
}

function onWheel(event) {
  const way = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (!way) return;
  event.preventDefault();
  move(-Math.round(way / CELL));
}

function onKey(event) {
  const ways = { ArrowLeft: 1, ArrowRight: -1, PageUp: 40, PageDown: -40 };
  if (event.key === " ") setPaused(!isPaused);
  else if (event.key in ways) move(ways[event.key]);
  else return;
  event.preventDefault();
}

function status(says) {
  $("timeline-status").textContent = says;
}
