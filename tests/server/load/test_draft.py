"""A draft model beside the served one, built as the server builds both."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.toy import make_request, run_all, tokens_of
from tests.recipes import make_recipe
from tests.tiny import tiny_gpt2, tiny_llama, tiny_qwen3_5
from thirdeye.server.engine.drafting.worth import GuessAccount
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.load.load_engine import load_engine
from thirdeye.weights.errors import ModelError
from thirdeye.weights.tokenizers.pretokenize import GPT2
from thirdeye.weights.tokenizers.same_vocabulary import difference
from thirdeye.weights.tokenizers.tokenizer import Tokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary

FLAGS = {"device": "cpu", "threads": 1, "quantize": "none"}
BYTES = 1 << 21
REQUESTS = [
    make_request(
        str(i), [5 + i, 60, 7], max_tokens=30, ignore_eos=True, temperature=0.5 * i, seed=i
    )
    for i in range(3)
]


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses cost rows and no time: a busy machine decides nothing."""
    monkeypatch.setattr(GuessAccount, "guessed", lambda *_: None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {name: tmp_path_factory.mktemp(name) for name in ("llama", "other", "gpt2", "states")}
    tiny_llama(paths["llama"])
    tiny_llama(paths["other"], seed=1, context=20)
    tiny_gpt2(paths["gpt2"])
    tiny_qwen3_5(paths["states"])
    return paths


def answers(path: Path, **flags: Any) -> tuple[list[list[int]], EngineStats, str]:
    recipe = make_recipe(path, [0], kv_memory_bytes=BYTES, **FLAGS | flags)
    core, info = load_engine(recipe, lambda *_: None)
    outputs = run_all(core, REQUESTS)
    return [tokens_of(outputs[r.request_id]) for r in REQUESTS], core.stats(), info.draft


@pytest.mark.parametrize("name", ["llama", "gpt2", "states"])
def test_same_tokens_in_fewer_steps(models: dict[str, Path], name: str) -> None:
    """Guessed by a model that is the same, or whose layers are others, or in front of one whose
    layers keep a state; the half of the memory is its own where it is as large."""
    plain, without, _ = answers(models[name])
    draft = {"llama": "llama", "gpt2": "llama", "states": "llama"}[name]
    on = {"draft": str(models[draft]), "speculation": "ngram"}
    found, stats, said = answers(models[name], **on)
    assert found == plain
    assert said == f"{models[draft].name}, 0.1 M parameters"
    if name == draft:
        assert stats.spec_decode_num_accepted_tokens_total > 40
        assert stats.steps_total < without.steps_total - 10
        assert stats.num_blocks_total == without.num_blocks_total // 2
    assert stats.draft_seconds_total > 0


@pytest.mark.parametrize("name", ["llama", "other"])
@pytest.mark.parametrize("speculation", ["auto", "ngram"])
def test_by_graphs_too(models: dict[str, Path], name: str, speculation: str) -> None:
    """Where steps are launched ahead its guesses are made on the device; a draft that was named is
    asked whatever `--speculation` says of the text alone."""
    plain, without, _ = answers(models["llama"])
    flags = {"draft": str(models[name]), "speculation": speculation, "cuda_graphs": "on"}
    found, stats, _ = answers(models["llama"], **flags)
    assert found == plain
    assert stats.spec_decode_num_draft_tokens_total > 0
    assert stats.draft_seconds_total > 0
    assert {missed.path for missed in stats.missed_paths} & {"step ahead", "whole guesses"} == {
        "whole guesses"
    }
    if name == "llama":
        assert stats.spec_decode_num_accepted_tokens_total > 40
        assert stats.steps_total < without.steps_total - 10


def test_a_text_beyond_the_draft_models_context_goes_on_without(models: dict[str, Path]) -> None:
    plain, _, _ = answers(models["llama"])
    found, stats, _ = answers(models["llama"], draft=str(models["other"]), speculation="ngram")
    assert found == plain
    assert stats.spec_decode_num_draft_tokens_total < 3 * 20


def test_what_cannot_be(models: dict[str, Path], tmp_path: Path) -> None:
    """Refused by name, with the way out."""
    asked: list[tuple[dict[str, Any], str]] = [
        ({"draft": str(models["states"])}, "keep a state.*whose layers all attend"),
        ({"draft": str(models["llama"]), "speculation": "off"}, "'--speculation' off.*leave one"),
        ({"draft": str(models["llama"]), "tensor_parallel": 2}, "not go with '--tensor-parallel'"),
        (
            {"draft": str(models["llama"]), "cuda_graphs": "on"},
            "state cannot be taken back.*add '--cuda-graphs off'",
        ),
        ({"draft": str(tmp_path / "none")}, "'--draft' .*none: there is no model"),
    ]
    for flags, text in asked:
        served = models["states" if "cuda_graphs" in flags else "llama"]
        with pytest.raises((ValueError, ModelError), match=text):
            answers(served, **{"speculation": "ngram"} | flags)


# --- the same vocabulary ---

LETTERS = {i: bytes([i]) for i in range(256)}


def vocabulary(size: int, **changed: bytes) -> Tokenizer:
    tokens = LETTERS | {int(name[1:]): token for name, token in changed.items()}
    return Tokenizer(Vocabulary(tokens, [], {}, GPT2, size, None, frozenset()))


def test_padding_is_no_difference() -> None:
    assert not difference(vocabulary(256), vocabulary(258))
    assert not difference(vocabulary(258), vocabulary(256))


def test_another_size_and_another_token_are_named() -> None:
    assert difference(vocabulary(256), vocabulary(300)) == "it has 300 tokens, not 256"
    swapped = vocabulary(256, t65=b"B", t66=b"A")
    assert difference(vocabulary(256), swapped) == "token 65 is 'B' there, not 'A'"
