"""What the tour's captions must say, from the server's answers and without a line of the page's.

A share is a `Share`, which a caption writes in percent; all others are written to three digits.
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import numpy as np
import pytest

from thirdeye.clients.inspection.arrays import arrays_of

TLS = ssl.create_default_context()  # which httpx makes anew for each request, in 30 ms
NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)( %)?")


class Share(float):
    """Of 1."""


def written(caption: str) -> list[float]:
    """The numbers of a caption, in order; what stands in quotes is text."""
    plain = re.sub("“[^”]*”", "", caption).replace("\N{MINUS SIGN}", "-")
    found = []
    for text, percent in NUMBER.findall(plain):
        value = float(text.replace(",", ""))
        found.append(Share(value / 100) if percent else value)
    return found


def check(caption: str, expected: list[float]) -> None:
    """To the digits that are written."""
    found = written(caption)
    assert [type(value) is Share for value in found] == [
        type(value) is Share for value in expected
    ], (caption, expected)
    for said, value in zip(found, expected, strict=True):
        if type(value) is Share:
            limits = {"abs": 5.1e-3 if value > 0.0994 else 5.1e-4}
        else:
            limits = {"rel": 5.1e-3, "abs": 1e-6}
        assert said == pytest.approx(float(value), **limits), (caption, expected)


@dataclass
class Reader:
    """A text that the tour goes through, and what the reader chose on the page."""

    url: str
    text: str
    layer: int = 0
    head: int = 0
    query: int = 0
    key: int = 0
    patched: tuple[str, str] = ("", "")  # the two sentences of the last step

    def post(self, path: str, **body: Any) -> Any:
        url = self.url + path
        answer = httpx.post(url, json=body, trust_env=False, verify=TLS, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def look(self, prompt: Any = None, **options: Any) -> Any:
        body = {"include": [], "layers": [self.layer], "top_logprobs": 20, **options}
        return self.post("/v1/inspect", prompt=prompt or self.ids, **body)

    def arrays(self, **options: Any) -> dict[str, Any]:
        """By name, without the dimension of the one layer."""
        found = self.look(encoding_format="base64", **options)
        return {name: array.values[0] for name, array in arrays_of(found).items()}

    def of_head(self, *include: str, **options: Any) -> list[Any]:
        found = self.arrays(include=list(include), heads=[self.head], **options)
        return [found[name][0].astype(np.float64) for name in include]

    def first_token(self, word: str) -> int:
        found: int = self.encode(word)[0]
        return found

    def encode(self, text: str) -> list[int]:
        found: list[int] = self.post("/tokenize", prompt=text, add_special_tokens=False)["tokens"]
        return found

    @cached_property
    def ids(self) -> list[int]:
        return self.encode(self.text)

    @cached_property
    def model(self) -> Any:
        return self.look()

    @property
    def every_layer(self) -> list[int]:
        return list(range(self.model["num_layers"]))

    @property
    def visible(self) -> Any:
        """[query, key]: what the layer's queries see."""
        size = len(self.ids)
        seen = np.tril(np.ones((size, size), bool))
        windows = self.model["design"]["windows"]
        window = windows[self.layer] if windows else None
        return seen if window is None else seen & ~np.tri(size, k=-window, dtype=bool)


def tokens(reader: Reader) -> list[float]:
    return [len(reader.text), len(reader.ids)]


def embeddings(reader: Reader) -> list[float]:
    ids = [reader.first_token(word) for word in (" girl", " boy", " car")]
    found = reader.post("/v1/inspect/vocabulary", tokens=ids, nearest=1)
    cosines, random = found["cosines"], found["random_pairs"]
    return [cosines[0][1], cosines[0][2], cosines[1][2], random["mean"], random["std"]]


def turned(reader: Reader) -> list[float]:
    (scores,) = reader.of_head("scores")
    return [reader.query - reader.key, scores[reader.query, reader.key]]


def added(reader: Reader) -> list[float]:
    edit = {"at": "embed", "layer": 0, "set": "zero"}
    rows = reader.arrays(include=["resid_pre"], layers=[0], interventions=[edit])["resid_pre"]
    lengths = np.linalg.norm(rows, axis=-1)
    cosine = rows[0] @ rows[1] / lengths[0] / lengths[1]
    return [len(rows) - 1, lengths[-1], 0, 1, cosine]


def distances(reader: Reader) -> list[float]:
    (pattern,) = reader.of_head("pattern")
    back = np.subtract.outer(np.arange(len(pattern)), np.arange(len(pattern)))
    own = np.diagonal(pattern).mean()
    return [reader.layer, reader.head, Share(own), (pattern * back).sum() / len(pattern)]


def pairs(reader: Reader) -> list[float]:
    (scores,) = reader.of_head("scores", masked_scores=True)
    seen, size = scores[reader.visible], len(scores)
    score = scores[reader.query, reader.key]
    return [size, size, reader.layer, reader.head, seen.min(), seen.max(), score]


def products(reader: Reader) -> list[float]:
    is_turned = reader.model["design"]["positions"] == "rotary"
    query, key, scores = reader.of_head(*(("rot_q", "rot_k") if is_turned else "qk"), "scores")
    seen = scores[reader.visible]
    width = query.shape[-1]
    product = query[reader.query] @ key[reader.key]
    score = scores[reader.query, reader.key]
    return [width, product, np.sqrt(width), score, len(seen), (seen < 0).sum()]


def products_less_distance(reader: Reader) -> list[float]:
    """With ALiBi: each token between takes as much from a score."""
    width, product, divisor, score, *counts = products(reader)
    divided = product / divisor
    return [width, product, divisor, divided, divided - score, score, *counts]


def mask(reader: Reader) -> list[float]:
    scores, pattern = reader.of_head("scores", "pattern", masked_scores=True)
    size = len(scores)
    weights = np.exp(scores)
    seen, given = (weights * reader.visible).sum(1), pattern.sum(1)
    taken = seen * (1 - given) / given  # by a sink of the head's own
    taken[given > 1 - 1e-5] = 0
    free = weights / (weights.sum(1) + taken)[:, None]
    later = np.triu(free, 1).sum() / size
    windows = reader.model["design"]["windows"]
    window = [windows[reader.layer]] if windows and windows[reader.layer] else []
    return [(~reader.visible).sum(), size**2, *window, Share(later)]


def weights(reader: Reader) -> list[float]:
    (pattern,) = reader.of_head("pattern")
    row = pattern[reader.query]
    return [Share(row.max()), Share(row.sum()), Share(pattern[:, 0].sum() / pattern.sum())]


def values(reader: Reader) -> list[float]:
    pattern, lengths = reader.of_head("pattern", "value_norms")
    return _carried(reader, pattern, lengths)


def gated_values(reader: Reader) -> list[float]:
    """Of heads whose values have a length for each token that looks."""
    pattern, lengths = reader.of_head("pattern", "value_norms")
    return _carried(reader, pattern, lengths[reader.query])


def _carried(reader: Reader, pattern: Any, lengths: Any) -> list[float]:
    taken = pattern[reader.query]
    carried = taken * lengths
    best = carried.argmax()
    return [Share(taken[best]), lengths[best], carried[best], carried.sum(), lengths[0]]


def heads(reader: Reader) -> list[float]:
    kinds = reader.look("a", include=["head_scores"])["head_scores"]["kinds"]
    found: list[float] = []
    for kind in ("previous_token", "duplicate_token", "induction"):
        scores = np.nan_to_num(np.array(kinds[kind], float))  # null in a layer without heads
        found += [*np.unravel_index(scores.argmax(), scores.shape), Share(scores.max())]
    return found


def off(reader: Reader) -> list[float]:
    edit = {"at": "head", "layer": reader.layer, "head": reader.head}
    zero, mean = (reader.look(interventions=[edit | {"set": how}]) for how in ("zero", "mean"))
    kl, noise = zero["changed"]["kl"], zero["noise"]["kl_max"]
    return [reader.head, reader.layer, kl, noise, mean["changed"]["kl"]]


def norm(reader: Reader) -> list[float]:
    x = reader.arrays(include=["resid_mid"])["resid_mid"][reader.query].astype(np.float64)
    rms, eps = np.sqrt((x**2).mean()), reader.model["design"]["norm_eps"]
    by_rms, by_layer = x / np.sqrt(rms**2 + eps), (x - x.mean()) / np.sqrt(x.var() + eps)
    return [reader.layer, x.mean(), rms, x.std(), np.abs(by_rms - by_layer).max(), len(x)]


def mlp(reader: Reader) -> list[float]:
    counts = reader.model["parameters"]
    attention = sum(counts[name] for name in ("query", "key", "value", "output", "state"))
    share = attention / (attention + counts["mlp"] + counts["router"])
    shares = [Share(share), Share(1 - share)]
    if reader.model["design"]["experts"]:
        asked = reader.look(include=["routing"])["layers"][0]["routing"][reader.query]
        told = [number for one in asked for number in (one["index"], Share(one["weight"]))]
        return [reader.layer, *told, *shares]
    loud = reader.look(include=["neurons"])["layers"][0]["neurons"][reader.query]
    first, last = loud[0], loud[9]
    return [first["index"], reader.layer, first["value"], 10, last["value"], *shares]


def stream(reader: Reader) -> list[float]:
    found = reader.look(include=["attribution"])["attribution"]
    parts = {"embedding": found["embed"], "position": found["positions"]}
    for layer, of_mlp in enumerate(found["mlp"]):
        names = ("attention_bias", "attention_rest")
        rest = sum(found[name][layer] for name in names)
        parts |= {f"attention {layer}": sum(found["heads"][layer]) + rest, f"MLP {layer}": of_mlp}
        parts[f"state {layer}"] = found["state"][layer]
    names = ("final_bias", "stream_rounding", "head_rounding")
    parts["rest"] = sum(found[name] for name in names)
    told = {name: value for name, value in parts.items() if value and abs(value) > 1e-6}
    largest = sorted(told, key=lambda name: -abs(told[name]))[:3]
    numbers = [
        number for name in largest for number in (*map(float, re.findall(r"\d+", name)), told[name])
    ]
    return [len(told), found["logit"], found["logit"], *numbers]


def layers(reader: Reader) -> list[float]:
    answer = reader.model["next_token"][0][0]["id"]
    found = reader.look(layers=reader.every_layer, lens_tokens=[answer])["layers"]
    ranks = [layer["lens_tokens"][0][0]["rank"] for layer in found]
    stays = next((i for i in range(len(ranks)) if not any(ranks[i:])), None)
    return [*([] if stays is None else [stays]), 0, ranks[0] + 1, ranks[-1] + 1]


def next_token(reader: Reader) -> list[float]:
    shares = np.exp([guess["logprob"] for guess in reader.model["next_token"][0]])
    nats = reader.look(include=["surprisal"])["surprisal"]["nats"]
    first = [Share(share) for share in shares[:3]]
    return [*first, len(shares), Share(shares.sum()), max(nats) / np.log(2)]


def cause(reader: Reader) -> list[float]:
    compare = [reader.first_token(word) for word in (" she", " he")]
    found = reader.post(
        "/v1/inspect",
        prompt=reader.patched[0],
        source=reader.patched[1],
        sweep={"over": "layers_positions", "at": "resid_pre", "set": "source"},
        compare=compare,
    )
    count = len(reader.encode(reader.patched[0]))
    grid = np.array([one["recovered"] or 0 for one in found["variants"]]).reshape(-1, count)
    best = grid.argmax(1)
    elsewhere = np.flatnonzero(best != count - 1)
    moved = [elsewhere[-1] + 1] if len(elsewhere) > 0 and best[-1] == count - 1 else []
    ends = (found[name]["logit_difference"] for name in ("base", "source"))
    return [*ends, 0, *moved]


STEPS: list[Callable[[Reader], list[float]]] = [
    tokens, embeddings, turned, pairs, products, mask, weights, values, heads, off, norm, mlp,
    stream, layers, next_token, cause,
]  # fmt: skip
