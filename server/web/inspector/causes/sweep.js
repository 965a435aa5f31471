// Every head left out in turn, each in a run of its own: a grid of how much the next token changes.
import { $, el, short } from "../../dom.js";
import { post, server, stream } from "../../api.js";

const MAX_TOKENS = 64; // the server's limit

/** What was found belongs to another text. */
export function clear(numTokens) {
  $("cause-heads").replaceChildren();
  $("every-head").disabled = numTokens > MAX_TOKENS;
  $("every-head").title = numTokens > MAX_TOKENS ? `for texts of at most ${MAX_TOKENS} tokens` : "";
}

/** `set` is what is put in a head's place, `choose(layer, head)` shows one. */
export async function run(prompt, set, choose, signal) {
  const body = { model: server.model, prompt, stream: true, sweep: { over: "heads", set } };
  const variants = [];
  let noise = null;
  for await (const event of stream(await post("/v1/inspect", body, signal))) {
    if (event.object === "inspection.sweep") {
      variants.push(...event.variants);
      $("cause-says").textContent = `${variants.length} heads tried…`;
    }
    if (event.object === "inspection.end") noise = event.noise;
  }
  $("cause").replaceChildren(); // of another question
  const above = variants.filter((variant) => variant.is_above_noise).length;
  const most = variants.reduce((best, variant) => (variant.kl > best.kl ? variant : best));
  $("cause-says").textContent = `${above} of ${variants.length} heads change the next token by more than rounding does (${short(noise.kl_max)} nats). Layer ${most.layer}, head ${most.head} does most: ${short(most.kl)} nats. A grey one says nothing; click one to see its map.`;
  $("cause-heads").replaceChildren(grid(variants, most.kl, choose));
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
