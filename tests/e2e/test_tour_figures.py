"""Each number that the tour's folds state is computed anew: of the default model, in fp32. Those
that want sweeps are `make prove`'s."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from thirdeye.clients.inspection.arrays import LabelledArray, arrays_of

FILE = Path(__file__).parents[2] / "server/web/tour/figures.js"
SENTENCE = "Greasy fried noodles will be my lunch"
EVERY = list(range(30))
BOY, GIRL = (f"The {child} went to the store because" for child in ("boy", "girl"))


def stated() -> dict[str, float]:
    text = FILE.read_text()
    found: dict[str, float] = json.loads(text[text.index("{") : text.index("}") + 1])
    return found


class Looks:
    """At a server of the default model."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, prompt: Any = SENTENCE, **options: Any) -> Any:
        body = {"include": [], "layers": [0], "top_logprobs": 1, **options}
        return self._post("/v1/inspect", {"prompt": prompt, **body})

    def arrays(self, prompt: str = SENTENCE, **options: Any) -> dict[str, LabelledArray]:
        return arrays_of(self(prompt, layers=EVERY, encoding_format="base64", **options))

    def sweep(self, prompt: str, **options: Any) -> Any:
        return self._post("/v1/inspect", {"prompt": prompt, **options})

    def words(self, tokens: list[str], centered: bool = False) -> Any:
        body = {"tokens": tokens, "nearest": 1, "centered": centered}
        return self._post("/v1/inspect/vocabulary", body)

    def _post(self, path: str, body: Any) -> Any:
        answer = httpx.post(self._url + path, json=body, trust_env=False, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()


def vocabulary(look: Looks) -> dict[str, float]:
    words = look.words(["th", "tz", " th", " tz", " girl", " boy", " car"])
    ranks = [token["merge_rank"] for token in words["tokens"]]
    cosines, centered = (
        found["cosines"] for found in (words, look.words([" girl", " boy", " car"], True))
    )
    return {
        **dict(zip(("th", "tz", "space th", "space tz"), ranks, strict=False)),
        "girl boy": cosines[4][5],
        "girl car": cosines[4][6],
        "girl boy centered": centered[0][1],
        "girl car centered": centered[0][2],
        "random mean": words["random_pairs"]["mean"],
        "random std": words["random_pairs"]["std"],
    }


def attention(look: Looks) -> dict[str, float]:
    found = look.arrays(include=["scores", "pattern"])
    scores, pattern = found["scores"].values, found["pattern"].values
    visible = np.tril(np.ones(scores.shape[-2:], bool))
    chosen = (scores < 0) & visible
    chosen[:, :, 0] = False  # the first token has no choice
    return {
        "visible scores": 270 * visible.sum(),
        "negative scores": (scores[:, :, visible] < 0).sum(),
        "weight of a negative score": pattern[chosen].max(),
        "sink": pattern[..., 0].sum() / pattern.sum(),
    }


def values(look: Looks) -> dict[str, float]:
    texts = ("Sherry fried in the sun", SENTENCE)
    where = [[token["token"] for token in look(text)["tokens"]].index(" fried") for text in texts]
    found = [look.arrays(text, include=["resid_pre", "resid_post"]) for text in texts]

    def cosine(part: str, layer: int) -> float:
        a, b = (one[part].values[layer, at] for one, at in zip(found, where, strict=True))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    return {
        "fried before layer 0": cosine("resid_pre", 0),
        "fried before layer 5": cosine("resid_pre", 5),
        "fried at the end": cosine("resid_post", 29),
    }


def heads(look: Looks) -> dict[str, float]:
    ids = look("a", include=["head_scores"])["head_scores"]["token_ids"]
    nats = look(ids, include=["surprisal"])["surprisal"]["nats"]
    swept = look.sweep(SENTENCE, sweep={"over": "heads"})["variants"]
    kl = [one["kl"] for one in swept]

    def without(change: str) -> Any:
        edit = {"at": "head", "layer": 0, "head": 1, "set": change}
        return look(interventions=[edit])["changed"]["kl"]

    return {
        "loss of the first half": np.mean(nats[: len(ids) // 2 - 1]),
        "loss of the second half": np.mean(nats[len(ids) // 2 :]),
        "heads": len(kl),
        "heads above the noise": sum(one["is_above_noise"] for one in swept),
        "heads above 0.1": sum(one > 0.1 for one in kl),
        "L0H1 zero": without("zero"),
        "L0H1 mean": without("mean"),
    }


def block(look: Looks) -> dict[str, float]:
    found = look.arrays(include=["resid_mid", "norms"])
    x = found["resid_mid"].values[15, -1].astype(np.float64)
    lengths = found["norms.resid_pre"].values
    counts = look()["parameters"]
    own = sum(counts[name] for name in ("query", "key", "value", "output"))
    return {
        "layer 15 mean": x.mean(),
        "layer 15 rms": np.sqrt((x**2).mean()),
        "layer 15 std": x.std(),
        "first token before layer 0": lengths[0, 0],
        "first token at its longest": found["norms.resid_post"].values[:, 0].max(),
        "last token before layer 12": lengths[12, -1],
        "attention in the layers": own / (own + counts["mlp"]),
        "attention in all": own / sum(counts.values()),
    }


def ends(look: Looks) -> dict[str, float]:
    parts = look(include=["attribution"], compare=[" today", "."])["attribution"]
    lens = look(layers=EVERY, lens_tokens=[" today"])["layers"]
    nats = look(include=["surprisal"])["surprisal"]["nats"]
    sweep = {"over": "layers_positions", "at": "resid_pre", "set": "source"}
    patched = look.sweep(BOY, source=GIRL, compare=[" she", " he"], sweep=sweep)["variants"]
    at = {(one["layer"], one["position"]): one["recovered"] for one in patched}
    ranks = [layer["lens_tokens"][0][0]["rank"] + 1 for layer in lens]
    return {
        "MLP 29": parts["mlp"][29],
        "all heads": sum(map(sum, parts["heads"])),
        **{f"rank before layer {layer}": ranks[layer] for layer in (0, 20, 29)},
        "bits of fried": nats[2] / np.log(2),
        "bits of be": nats[5] / np.log(2),
        "patch at girl before layer 25": at[25, 1],
        "patch at the end before layer 29": at[29, 6],
    }


# 270 heads one by one, each layer at each token: nine tenths of the time of all.
SWEPT = [pytest.param(computed, marks=pytest.mark.prove) for computed in (heads, ends)]


@pytest.mark.real
@pytest.mark.parametrize("computed", [vocabulary, attention, values, block, *SWEPT])
def test_what_is_stated_is_so(real_server: Any, computed: Callable[[Looks], Any]) -> None:
    """To the three digits that are written, or to one in the last where a sum's order decides."""
    known = stated()
    for name, value in computed(Looks(real_server.url)).items():
        assert known[name] == pytest.approx(float(value), rel=6e-3, abs=6e-4), name


@pytest.mark.real
def test_what_the_docs_state_is_so(real_server: Any) -> None:
    """Of the default model: what its first token gets, what two random tokens have in common."""
    look, docs = Looks(real_server.url), FILE.parents[3] / "docs"
    pattern = look.arrays(include=["pattern"])["pattern"].values
    taken = pattern[:, :, 1:, 0].mean()  # the first token has no choice itself
    assert f"most of the weight ({taken:.0%}".replace("%", " %") in (docs / "page.md").read_text()
    pairs = look.words([" a"])["random_pairs"]
    said = f"the default model have {pairs['mean']:.2f} \N{PLUS-MINUS SIGN} {pairs['std']:.2f}"
    text = (docs / "inspect.md").read_text()
    assert said in text
    assert f"all {stated()['heads above the noise']} heads of the default model" in text
    head_tokens = 64 * sum(9 * (30 - layer) for layer in EVERY)
    assert f"all 270 heads of the default model on 64 tokens are {head_tokens:,}" in text


def test_every_number_is_computed_here() -> None:
    """By its name, in one of the functions above."""
    text = Path(__file__).read_text()
    computed = {name for name in stated() if f'"{name}"' in text}
    computed |= {f"rank before layer {layer}" for layer in (0, 20, 29)}
    assert stated().keys() - computed == set()


def test_the_numbers_of_gpt_3_are_those_of_its_shape() -> None:
    """96 layers, 12,288 wide: four matrices of attention, eight of the MLP; and 96 x 96 heads."""
    width, layers = 12288, 96
    folds = "".join(path.read_text() for path in FILE.parent.rglob("*.js"))
    for weights, name in ((4 * width**2, "attention"), (8 * width**2, "MLPs")):
        assert f"{layers * weights / 1e9:.1f} billion" in folds, name
    assert f"{96 * 96:,} in all" in folds
