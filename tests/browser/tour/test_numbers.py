"""No caption lies: what each step says of the model is what the server's numbers come to.

Over real engines: the default model as it is served, and tiny random ones of other designs.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import BloomConfig, BloomForCausalLM

from tests.architectures.cases import relative
from tests.architectures.latent.latent_cases import LATENT
from tests.browser.conftest import Visit, visit
from tests.browser.tour import captions
from tests.browser.tour.test_steps import STEPS, go, trouble
from tests.draws import also_at_night, is_night
from tests.e2e.in_process import served, served_here
from tests.tiny import VOCAB_SIZE, save, tiny_gpt2

SENTENCE = "Greasy fried noodles will be my lunch"
MAX_BYTES = 120_000  # of what a step is told, for this sentence
EXACT = {"quantize": "none", "speculation": "off"}


def tiny(path: Path, kind: str, **changes: Any) -> None:
    model = relative(kind, vocab_size=VOCAB_SIZE, **changes).make()
    save(model, path, chat=True)


def tiny_bloom(path: Path) -> None:
    config = BloomConfig(vocab_size=VOCAB_SIZE, hidden_size=48, n_layer=2, n_head=4)
    save(BloomForCausalLM(config), path, chat=True)


STATE = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 16, "head_dim": 16, "partial_rotary_factor": 0.5,
    "layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2,
}  # fmt: skip
EXPERTS = {
    "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 36,
    "shared_expert_intermediate_size": 36,
}  # fmt: skip


DESIGNS = {  # the classic; a state, gated heads, normed queries and keys; a window and sinks; ALiBi
    "gpt2": tiny_gpt2,
    "experts": lambda path: tiny(path, "qwen3_next", **STATE, **EXPERTS),
    "sinks": lambda path: tiny(
        path, "gpt_oss", num_local_experts=6, num_experts_per_tok=2, sliding_window=4
    ),
    "alibi": tiny_bloom,
}
AT_A_PUSH = {  # what is its own, and together every step; all steps of all of them by night
    "gpt2": (1, 2, 3, 4, 7, 10, 11, 13, 15, 16),
    "experts": (3, 5, 8, 9, 12, 13),
    "sinks": (5, 6, 7, 8, 11, 12, 14),
    "alibi": (3, 5, 6, 11, 12),
}
CLASSIC, WITH_EXPERTS = ("gpt2",), ("experts", "sinks")
WORDS = [  # step, what its text says, of which designs
    (3, "second table", CLASSIC),
    (3, "nothing in this layer", ("alibi",)),
    (11, "takes the mean away", ("gpt2", "alibi")),
    (5, "also normed", ("experts",)),
    (6, "have a window", ("sinks",)),
]
CAPTIONS = [  # the same of its caption
    (6, "4 tokens back", ("sinks",)),
    (12, "the router sends", WITH_EXPERTS),
    (8, "behind this model's gate", ("experts",)),
]


@pytest.fixture(scope="module", params=list(DESIGNS))
def tiny_of(request: Any, tmp_path_factory: Any) -> Iterator[tuple[str, str]]:
    """(name, address) of a server of a tiny model of each design."""
    path = tmp_path_factory.mktemp(request.param)
    DESIGNS[request.param](path)
    with served_here(path, **EXACT) as url:
        yield request.param, url


@pytest.fixture(scope="module")
def served_default(default_model: Path) -> Iterator[str]:
    """The address of the default model, in the form that it is served in by default."""
    with served(default_model) as url:
        yield url


def chosen(page: Any) -> dict[str, int]:
    """What the selects of this step say."""
    names = {"Layer": "layer", "Head": "head", "Token that asks": "query", "Token": "query"}
    names["Token looked at"] = "key"
    found = page.evaluate(
        """[...document.querySelectorAll('.tour-picture > .tour-controls label')]
          .map((label) => [label.firstChild.textContent.trim(),
            Number(label.querySelector('select').value)])"""
    )
    return {names[name]: value for name, value in found}


def walk(
    page: Any,
    url: str,
    expected: list[Any],
    sizes: dict[str, int],
    steps: Iterable[int] = range(1, STEPS + 1),
) -> tuple[dict[int, str], dict[int, str]]:
    """Every step's caption, checked, and its words; the bytes that a step was told are bounded."""
    reader = captions.Reader(url, SENTENCE, query=4, key=3)
    told: dict[int, str] = {}
    words: dict[int, str] = {}
    for number in steps:
        of_step = expected[number - 1]
        sizes.clear()
        go(page, number)
        assert trouble(page) == "", number
        for name, value in chosen(page).items():
            setattr(reader, name, value)
        if number == STEPS:
            pair = page.locator(".tour-pair input").all()
            reader.patched = (pair[0].input_value(), pair[1].input_value())
        told[number] = page.inner_text("figcaption")
        words[number] = page.inner_text(".tour-words")
        captions.check(told[number], of_step(reader))
        if of_step is captions.turned:  # and what the page's own turning comes to is the same
            own = captions.written(page.inner_text(".tour-stage .tour-caption"))
            assert own[-1] == captions.written(told[number])[-1]
        assert sum(sizes.values()) < MAX_BYTES, (number, sizes)
    return told, words


def counted(seen: Visit) -> dict[str, int]:
    """Bytes of the server's answers, as they come."""
    sizes: dict[str, int] = {}

    def add(response: Any) -> None:
        path = response.url.partition("//")[2].partition("/")[2]
        if path.startswith(("v1/inspect", "tokenize")):
            size = int(response.headers.get("content-length", 0))
            sizes[path] = sizes.get(path, 0) + size

    seen.on("response", add)
    return sizes


@also_at_night
@pytest.mark.real
def test_no_caption_lies_of_the_default_model(browser: Any, served_default: str) -> None:
    """In eight bits, as people meet it; and no step is told more than 120 KB. At a push two steps,
    of which it is known what they say."""
    with visit(browser, served_default, "/#tour") as seen:
        sizes = counted(seen)
        steps = range(1, STEPS + 1) if is_night() else (4, 7)
        told, _ = walk(seen.page, served_default, captions.STEPS, sizes, steps)
        assert [*told] == [*steps]
        assert "layer 16, head 0" in told[4]  # the head that looks most at the token before here
        assert "“·noodles” gives most to “·fried”" in told[7]


@also_at_night
def test_no_caption_lies_of_another_design(browser: Any, tiny_of: tuple[str, str]) -> None:
    """And each is shown as it is: LayerNorm and added rows, normed queries, experts, a band."""
    name, url = tiny_of
    expected = list(captions.STEPS)
    if name == "gpt2":
        expected[2] = captions.added
    if name == "alibi":
        expected[2], expected[4] = captions.distances, captions.products_less_distance
    if name == "experts":
        expected[7] = captions.gated_values
    with visit(browser, url, "/#tour") as seen:
        page = seen.page
        steps = range(1, STEPS + 1) if is_night() else AT_A_PUSH[name]
        told, words = walk(page, url, expected, counted(seen), steps)
        strip, parts = page.inner_text(".tour-strip"), page.text_content(".tour-map")
        for found, rows in ((words, WORDS), (told, CAPTIONS)):
            for step, said, names in rows:
                if step in found:
                    assert (said in found[step]) == (name in names), (step, said)
        assert ("LayerNorm, added positions" in strip.partition("GPT-3")[0]) == (name in CLASSIC)
        assert ("Q, K normed, V" in parts) == (name == "experts")
        assert ("router, experts" in parts) == (name in WITH_EXPERTS)
        assert ("a state in place of heads in 1 layer" in strip) == (name == "experts")


def test_no_caption_lies_of_latents(browser: Any, tmp_path: Path) -> None:
    """Where a head's own queries, keys and values are made for the picture: the steps of those."""
    tiny(tmp_path, "deepseek_v2", **LATENT, num_hidden_layers=1, first_k_dense_replace=1)
    with served_here(tmp_path, **EXACT) as url, visit(browser, url, "/#tour/3") as seen:
        page = seen.page
        _, words = walk(page, url, captions.STEPS, counted(seen), steps=(3, 5))
        assert "made of a latent of 24 numbers" in page.inner_text(".tour-strip")
        assert "a latent of 24 numbers" in words[5]
