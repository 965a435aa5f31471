// What a part of the model does, by leaving it out: one part of the chosen layer, or every head in turn.
import { $, el, percent, visible } from "../dom.js";
import { post, server, stream } from "../api.js";

const MAX_SWEPT = 64; // tokens: the server's limit

/** `where` gives {layer, head}, `tokens` the ids that are looked at, `choose(layer, head)` shows a head. */
export function mount(where, tokens, choose) {
  $("leave-out").addEventListener("click", () => leaveOut(where(), tokens()));
  $("every-head").addEventListener("click", () => sweep(tokens(), choose));
}

/** What was found belongs to another text. */
export function clear(numTokens) {
  $("cause-says").textContent = "";
  $("cause").replaceChildren();
  $("cause-heads").replaceChildren();
  $("every-head").disabled = numTokens > MAX_SWEPT;
  $("every-head").title = numTokens > MAX_SWEPT ? `for texts of at most ${MAX_SWEPT} tokens` : "";
}

const PARTS = {
  head: ({ layer, head }) => [{ at: "head", layer, head }, `head ${head} of layer ${layer}`],
  attn_out: ({ layer }) => [{ at: "attn_out", layer }, `the attention of layer ${layer}`],
  mlp_out: ({ layer }) => [{ at: "mlp_out", layer }, `the MLP of layer ${layer}`],
};

async function leaveOut(place, prompt) {
  const [edit, name] = PARTS[$("cause-part").value](place);
  const set = $("cause-set").value;
  await busy(async () => {
    const body = { model: server.model, prompt, include: [], top_logprobs: 6, interventions: [{ ...edit, set }] };
    const found = await (await post("/v1/inspect", body)).json();
    const how = set === "zero" ? `Without ${name}` : `With ${name} at its mean over this text`;
    $("cause-says").textContent = `${how} ${verdict(found.changed.kl, found.noise)}`;
    $("cause").replaceChildren(comparison(found.base_next_token[0], found.next_token[0]));
  });
}

/** What a divergence is worth beside the model's own roundings. */
export function verdict(kl, noise) {
  const size = `the next token moves by ${short(kl)} nats (KL)`;
  return kl > noise.kl_max
    ? `${size}; rounding alone moves it by ${short(noise.kl_max)} at most.`
    : `${size}: no more than rounding alone does (${short(noise.kl_max)}), so this says nothing.`;
}

/** The likeliest tokens of either run, a line each: as it is, and changed. */
function comparison(base, changed) {
  const names = new Map([...base, ...changed].map((guess) => [guess.id, guess.token]));
  const shares = (guesses) => new Map(guesses.map((guess) => [guess.id, Math.exp(guess.logprob)]));
  const [before, after] = [shares(base), shares(changed)];
  const cell = (share) => el("td", {}, share === undefined ? "less" : percent(share));
  const rows = [...names].map(([id, token]) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, visible(token))), cell(before.get(id)), cell(after.get(id))));
  const titles = ["next token", "as it is", "changed"].map((title) => el("th", { scope: "col" }, title));
  return el("table", { class: "cause-table" }, el("thead", {}, el("tr", {}, ...titles)), el("tbody", {}, ...rows));
}

async function sweep(prompt, choose) {
  await busy(async () => {
    $("cause").replaceChildren(); // of another question
    const set = $("cause-set").value;
    const body = { model: server.model, prompt, stream: true, sweep: { over: "heads", set } };
    const variants = [];
    let noise = null;
    for await (const event of stream(await post("/v1/inspect", body))) {
      if (event.object === "inspection.sweep") {
        variants.push(...event.variants);
        $("cause-says").textContent = `${variants.length} heads tried…`;
      }
      if (event.object === "inspection.end") noise = event.noise;
    }
    const above = variants.filter((variant) => variant.is_above_noise).length;
    const most = variants.reduce((best, variant) => (variant.kl > best.kl ? variant : best));
    $("cause-says").textContent = `${above} of ${variants.length} heads change the next token by more than rounding does (${short(noise.kl_max)} nats). Layer ${most.layer}, head ${most.head} does most: ${short(most.kl)} nats. A grey one says nothing; click one to see its map.`;
    $("cause-heads").replaceChildren(grid(variants, most.kl, choose));
  });
}

function grid(variants, most, choose) {
  const heads = 1 + Math.max(...variants.map((variant) => variant.head));
  const cells = variants.map(({ layer, head, kl, is_above_noise: isAbove }) => {
    const says = `Layer ${layer}, head ${head}: ${short(kl)} nats${isAbove ? "" : ", no more than rounding"}`;
    const cell = el("button", {
      type: "button", class: isAbove ? "cause-cell" : "cause-cell nothing", title: says, "aria-label": says,
      onclick: () => choose(layer, head),
    });
    cell.style.setProperty("--share", `${Math.round(Math.sqrt(kl / most) * 100)}%`);
    return cell;
  });
  const node = el("div", { class: "cause-grid", role: "group", "aria-label": "What leaving out each head does" }, ...cells);
  node.style.setProperty("--heads", heads);
  return node;
}

async function busy(work) {
  const buttons = [$("leave-out"), $("every-head")];
  const were = buttons.map((button) => button.disabled);
  buttons.forEach((button) => (button.disabled = true));
  $("cause-says").textContent = "Computing…";
  try {
    await work();
  } catch (error) {
    $("cause-says").textContent = error.message;
  }
  buttons.forEach((button, i) => (button.disabled = were[i]));
}

/** A number as people read it: 1.0, 0.0081, 3.4e-7. */
export function short(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toPrecision(2);
}
