"""A model with the head that guesses for it, built as the server builds them."""

from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest

from tests.architectures.mtp.mtp_files import write, write_gguf
from tests.draws import also_at_night, is_night
from tests.engine.toy import make_request, run_all, tokens_of
from tests.recipes import make_recipe
from tests.tiny import VOCAB_SIZE, save_tokenizer, tiny_llama
from thirdeye.server.engine.drafting.worth import GuessAccount, TextRate
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.load import kv_memory
from thirdeye.server.load.load_engine import load_engine

FLAGS = {"device": "cpu", "threads": 1, "quantize": "none"}
SHARED = list(range(3, 40))
REQUESTS = [
    make_request(str(i), [*SHARED, 5 + i], max_tokens=16, ignore_eos=True, temperature=i, seed=i)
    for i in range(3)
]


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses of a head that learned nothing are made all the same, on a busy machine too."""
    monkeypatch.setattr(GuessAccount, "may_guess", lambda *_: True)
    monkeypatch.setattr(GuessAccount, "is_off", False)
    monkeypatch.setattr(TextRate, "num_wanted", lambda *_: 3)


def answers(path: Path, **flags: Any) -> tuple[list[list[int]], EngineStats, str]:
    """Twice the same: the second time behind prefixes that are known."""
    recipe = make_recipe(path, [0], kv_memory_bytes=1 << 21, **FLAGS | flags)
    core, info = load_engine(recipe, lambda *_: None)
    outputs = [run_all(core, REQUESTS) for _ in range(2)]
    assert outputs[1]["0"][-1].num_cached_tokens == 32
    found = [tokens_of(of_one[r.request_id]) for of_one in outputs for r in REQUESTS]
    return found, core.stats(), info.draft


NAMES, FORMS = ("glm4_moe", "qwen3_5_text", "deepseek_v3"), ("safetensors", "GGUF")
EACH_ONCE = [*zip(NAMES, cycle(FORMS), strict=False)]  # tests/architectures/mtp reads every file


@also_at_night
@pytest.mark.parametrize(("name", "form"), product(NAMES, FORMS) if is_night() else EACH_ONCE)
def test_same_tokens(tmp_path: Path, name: str, form: str) -> None:
    """With experts; with layers that keep a state, which is undone; over latents."""
    path = tmp_path
    if form == "GGUF":
        path, *_ = write_gguf(tmp_path, name, vocab_size=VOCAB_SIZE)
    else:
        write(tmp_path, name, vocab_size=VOCAB_SIZE)
        save_tokenizer(tmp_path, chat=False)
    plain, without, said = answers(path)
    assert not said
    found, stats, said = answers(path, speculation="mtp")
    assert found == plain
    assert said == "the model's own head"
    assert stats.spec_decode_num_draft_tokens_total > 50
    assert stats.num_blocks_total < without.num_blocks_total
    assert stats.draft_seconds_total > 0
    assert not stats.is_draft_paused


def test_steps_are_not_launched_ahead_for_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they would be, as on a GPU, it is served step by step, and the ready line says why."""
    write(tmp_path, "glm4_moe", vocab_size=VOCAB_SIZE)
    save_tokenizer(tmp_path, chat=False)
    plain, *_ = answers(tmp_path)
    monkeypatch.setattr(kv_memory, "runs_ahead", lambda choice, *_: choice != "off")
    recipe = make_recipe(tmp_path, [0], kv_memory_bytes=1 << 21, speculation="mtp", **FLAGS)
    core, info = load_engine(recipe, lambda *_: None)
    outputs = run_all(core, REQUESTS)
    assert [tokens_of(outputs[r.request_id]) for r in REQUESTS] == plain[: len(REQUESTS)]
    assert core.stats().spec_decode_num_draft_tokens_total > 20
    (said,) = [path for path in info.missed_paths if path.startswith("step ahead")]
    assert "the model's own head reads hidden states" in said
    assert "graphs" not in info.numerics


def test_what_cannot_be(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    flags = {"speculation": "mtp"}
    with pytest.raises(ValueError, match=r"has no head that guesses.*use 'ngram'"):
        answers(tmp_path, **flags)
    with pytest.raises(ValueError, match="'--speculation' mtp do not go together"):
        answers(tmp_path, draft=str(tmp_path), **flags)
    write(tmp_path / "glm", "glm4_moe", vocab_size=VOCAB_SIZE)
    save_tokenizer(tmp_path / "glm", chat=False)
    with pytest.raises(ValueError, match="add '--cuda-graphs off'"):
        answers(tmp_path / "glm", cuda_graphs="on", **flags)
