// Numbers of SmolLM2-135M-Instruct, the default model, in fp32, and of the tour's sentence, for the folds: what is
// true is shown on one model, whichever is served. A test computes each of them anew (tests/e2e/test_tour_figures.py);
// so this is JSON. In captions no number is written: they are computed in the page.
export const FIGURES = {
  "th": 373, "tz": 14499, "space th": 295, "space tz": 35237,
  "girl boy": 0.682, "girl car": 0.138, "girl boy centered": 0.719, "girl car centered": 0.389,
  "random mean": 0.441, "random std": 0.142,
  "visible scores": 12150, "negative scores": 4170, "weight of a negative score": 0.932,
  "sink": 0.757,
  "fried before layer 0": 1.0, "fried before layer 5": 0.971, "fried at the end": 0.938,
  "loss of the first half": 14.0, "loss of the second half": 3.08,
  "heads": 270, "heads above the noise": 270, "heads above 0.1": 5, "L0H1 zero": 1.35, "L0H1 mean": 0.0496,
  "layer 15 mean": 0.0562, "layer 15 rms": 7.93, "layer 15 std": 7.93,
  "first token before layer 0": 2.18, "first token at its longest": 24600, "last token before layer 12": 173,
  "attention in the layers": 0.25, "attention in all": 0.197,
  "MLP 29": 5.82, "all heads": -0.521,
  "rank before layer 0": 47622, "rank before layer 20": 262, "rank before layer 29": 40,
  "bits of fried": 23.4, "bits of be": 2.6,
  "patch at girl before layer 25": 0.903, "patch at the end before layer 29": 1.0
};

/** How a fold begins that tells of them. */
export const IN_DEFAULT = "In SmolLM2-135M, in fp32, on the tour's sentence:";
