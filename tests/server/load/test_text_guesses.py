"""Guesses from the text where steps are launched ahead, built as the server builds it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.engine.toy import make_request, run_all, tokens_of
from tests.model.tiny import HYBRID, LLAMA
from tests.recipes import make_recipe
from tests.tiny import tiny_llama, tiny_qwen3_5
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.load.drafting.text_guesses import choose_text_guesses, most_decode_rows
from thirdeye.server.load.load_engine import load_engine

FLAGS: dict[str, Any] = {
    "device": "cpu", "threads": 1, "quantize": "none", "kv_memory_bytes": 1 << 21,
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "beside", "ahead"),
    [("auto", 15, 0), ("ngram", 15, 15), ("mtp", 15, 0), ("off", 0, 0)],
)
def test_ahead_they_are_made_when_asked_for_by_name(asked: str, beside: int, ahead: int) -> None:
    recipe = make_recipe(speculation=asked)
    assert choose_text_guesses(recipe, LLAMA, is_ahead=False).most == beside
    found = choose_text_guesses(recipe, LLAMA, is_ahead=True)
    assert (found.most, found.refused) == (ahead, "")


def test_nobody_is_refused_what_nobody_asked_for() -> None:
    """With ranks, or with layers that keep a state."""
    for asked, is_refused in (("auto", False), ("ngram", True)):
        ranks = make_recipe(speculation=asked, tensor_parallel=2)
        for recipe, model in ((ranks, LLAMA), (make_recipe(speculation=asked), HYBRID)):
            found = choose_text_guesses(recipe, model, is_ahead=True)
            assert found.most == 0
            assert bool(found.refused) == is_refused
            assert choose_text_guesses(recipe, model, is_ahead=False).most == 15


def test_they_are_rows_of_a_step() -> None:
    """So there may be more of these than sequences, but not than tokens of a step."""
    asked = {"speculation": "ngram", "max_num_seqs": 4, "max_tokens_with_drafts": 24}
    recipe = make_recipe(**asked)
    found = [most_decode_rows(recipe, LLAMA, n, is_ahead=True) for n in (8, 30)]
    assert found == [8, 24]
    assert most_decode_rows(recipe, LLAMA, 30, is_ahead=False) == 4
    assert most_decode_rows(recipe, HYBRID, 30, is_ahead=True) == 4
    wide = make_recipe(**asked | {"max_num_seqs": 40})
    assert most_decode_rows(wide, LLAMA, 64, is_ahead=True) == 40


def loaded(path: Path, eos: int, **flags: Any) -> tuple[EngineCore, EngineInfo]:
    return load_engine(make_recipe(path, [eos], **FLAGS | flags), lambda *_: None)


def test_same_tokens_in_fewer_steps(tmp_path: Path) -> None:
    """Greedy and drawn, of few words, so that a text repeats itself."""
    tiny_llama(tmp_path)
    words = dict.fromkeys((40, 41, 42), 30.0)
    requests = [
        make_request(
            str(i), [5 + i, 6, 7], max_tokens=60, temperature=0.3 * i, seed=i, logit_bias=words
        )
        for i in range(3)
    ]
    said, steps = {}, {}
    for asked in ("off", "auto", "ngram"):
        core, info = loaded(tmp_path, 2, speculation=asked, cuda_graphs="on")
        outputs = run_all(core, requests)
        said[asked] = {name: tokens_of(of_one) for name, of_one in outputs.items()}
        stats = core.stats()
        steps[asked] = stats.steps_total
        assert (stats.spec_decode_num_accepted_tokens_total > 30) == (asked == "ngram")
        parts = [path for path in info.missed_paths if path.startswith("whole guesses: ")]
        assert ["grammar, penalties or an adapter" in part for part in parts] == [True] * (
            asked == "ngram"
        )
        assert stats.num_blocks_used == 0
    assert said["ngram"] == said["auto"] == said["off"]
    assert steps["ngram"] < steps["auto"] == steps["off"]


def test_a_state_is_said_to_be_in_the_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, on the ready line and in the metrics; the answers come all the same."""
    tiny_qwen3_5(tmp_path)
    with caplog.at_level(logging.WARNING):
        core, info = loaded(tmp_path, 2, speculation="ngram", cuda_graphs="on", max_num_seqs=4)
    (path,) = [path for path in info.missed_paths if path.startswith("guesses: ")]
    assert "state" in path
    assert path.endswith("add '--cuda-graphs off' for them")
    assert path.removeprefix("guesses: ") in caplog.text
    assert [missed.path for missed in core.stats().missed_paths].count("guesses") == 1
    run_all(core, [make_request("a", [5, 6, 5, 6], max_tokens=20, ignore_eos=True)])
    assert core.stats().spec_decode_num_draft_tokens_total == 0
