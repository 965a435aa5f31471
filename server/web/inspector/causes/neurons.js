// The neurons of a layer's MLP that say most about a token: those that are worth being switched off.
import { $, el } from "../../dom.js";
import { post, server } from "../../api.js";

const COUNT = 20;

let of = ""; // the place they are told of
let controller = null;

export function forget() {
  of = "";
  $("cause-neuron").replaceChildren();
}

/** Fills the select, for the chosen layer and token (none: the last). */
export async function offer(ids, { layer, query }) {
  const position = query ?? ids.length - 1;
  const place = `${layer}/${position}`;
  if (of === place) return;
  forget();
  of = place;
  controller?.abort();
  const { signal } = (controller = new AbortController());
  const body = { model: server.model, prompt: ids, include: ["neurons"], layers: [layer], positions: [position], top_neurons: COUNT, top_logprobs: 1 };
  try {
    const { layers: [{ neurons: [largest] }] } = await (await post("/v1/inspect", body, signal)).json();
    $("cause-neuron").replaceChildren(...largest.map(({ index, value }) => el("option", { value: index }, `neuron ${index}: ${value.toFixed(2)}`)));
  } catch (error) {
    if (signal.aborted) return;
    of = "";
    $("cause-says").textContent = error.message;
  }
}
