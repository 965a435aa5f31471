// What the inspector shows: the text that was read, and the head and the token that are chosen in it.

export const NOTHING = { layer: 0, head: 0, query: null, shown: null };

/** `found`: {ids, text, answerAt, asked, start, layers, end, ranks} of the text that is shown; a layer has {layer, norms,
 * logit_lens, pattern?}. `chosen`: `query` is a token that was clicked, `shown` one that is pointed at, or clicked. */
export const shown = { found: null, chosen: NOTHING };

/** The chosen layer, once its pattern is here. */
export function current() {
  const layer = shown.found?.layers[shown.chosen.layer];
  return layer?.pattern ? layer : undefined;
}

/** The numbers of the layers whose heads look at tokens; others keep a state. */
export const attending = () => shown.found.layers.filter((layer) => layer?.pattern?.heads).map((layer) => layer.layer);
