// Python that asks this server the same, with the project's own client.
import { server } from "../../api.js";

/** A value as Python writes it: nothing that is asked holds a boolean or a null. */
const literal = (value) => JSON.stringify(value);

export function python({ state, found, made: { edits }, request }) {
  const { asked, layer, head, token } = state;
  const typed = asked.ids === undefined;
  const prompt = typed ? literal(asked.text) : literal(asked.ids);
  const special = typed ? ", add_special_tokens=False" : "";
  const query = token ?? found.ids.length - 1;
  const lines = [
    `look = client.inspect(prompt${special}, include=["pattern", "norms", "logit_lens"], layers=[${layer}], top_logprobs=10)`,
    `pattern = look.arrays["pattern"].at(layer=${layer}, head=${head})  # [query, key]`,
    `for token, weight in zip(look.tokens, pattern[${query}]):`,
    '    print(f"{weight:.3f} {token!r}")',
    "for guess in look.next_token[-1]:",
    "    print(guess)",
  ];
  if (edits.length) lines.push(...changed(request(edits), special));
  return [
    "# The same look, from Python: thirdeye has this client",
    "from thirdeye.clients import Client",
    "",
    `prompt = ${prompt}`,
    `with Client(${literal(`${location.origin}/v1`)}, model=${literal(server.model)}) as client:`,
    ...lines.map((line) => line && `    ${line}`),
    "",
  ].join("\n");
}

function changed({ interventions, source }, special) {
  return [
    "",
    "changed = client.inspect(",
    `    prompt${special}, include=[], top_logprobs=6,`,
    "    interventions=[",
    ...interventions.map((edit) => `        ${literal(edit)},`),
    "    ],",
    ...(source ? [`    source=${literal(source)},`] : []),
    ")",
    'effect, noise = changed.raw["changed"], changed.raw["noise"]',
    "print(f\"KL {effect['kl']:.3g} nats; rounding alone: {noise['kl_max']:.3g}\")",
    "for guess in changed.next_token[0]:",
    "    print(guess)",
  ];
}
