"""Settings in, tokens out: a real transformer behind the engine, with speculation and without."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.in_process import served_here
from tests.engine.toy import run_all, tokens_of
from tests.tiny import tiny_gpt2, tiny_llama
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.start_engine import write_recipe
from thirdeye.server.load.load_engine import load_engine
from thirdeye.server.settings.read_settings import read_settings


def load(path: Path, **settings: Any) -> EngineCore:
    """The engine that `thirdeye serve` would start with these settings."""
    chosen = read_settings(
        {"model": str(path), "device": "cpu", "kv_memory": 0.01, "threads": 1, **settings}
    )
    return load_engine(write_recipe(chosen, open_model(chosen.checkpoint)), lambda *_: None)[0]


def request(name: str, prompt: list[int]) -> Request:
    """Greedy; liking what was said before makes a random model copy itself."""
    sampling = SamplingParams(
        max_tokens=60, temperature=0.0, frequency_penalty=-0.5, ignore_eos=True
    )
    return Request(request_id=name, prompt_token_ids=prompt, sampling=sampling)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_same_tokens_in_fewer_steps(make: Callable[[Path], object], tmp_path: Path) -> None:
    """On by default, off on demand, and what is said does not tell which."""
    make(tmp_path)
    requests = [request(str(i), [10 + i, 20, 30 + i, 20]) for i in range(2)]
    cores = [load(tmp_path, speculation=mode) for mode in ("off", "ngram")] + [load(tmp_path)]
    answers = [{n: tokens_of(o) for n, o in run_all(c, requests).items()} for c in cores]
    off, on, default = (core.stats() for core in cores)
    assert answers[0] == answers[1] == answers[2]
    assert off.spec_decode_num_draft_tokens_total == 0
    assert on.spec_decode_num_accepted_tokens_total > 20
    assert default.steps_total == on.steps_total
    assert on.steps_total < off.steps_total


def test_where_steps_are_launched_ahead_a_caller_reads_the_same(tmp_path: Path) -> None:
    """Over HTTP: choices of their own seeds, cut at a stop string in the middle of what a step has
    brought. A guess counts in no `usage`."""
    tiny_llama(tmp_path)
    asked = {
        "model": "tiny", "prompt": "abc", "n": 3, "max_tokens": 60, "temperature": 0.4, "seed": 5,
        "logit_bias": {"40": 30, "41": 30, "42": 30}, "logprobs": 0,
    }  # fmt: skip
    said: dict[str, list[Any]] = {}
    for mode in ("off", "ngram"):
        flags = {"device": "cpu", "kv_memory": 0.01, "cuda_graphs": "on", "speculation": mode}
        with served_here(tmp_path, **flags) as url:
            whole = httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()
            text = whole["choices"][0]["text"]
            stop = text[len(text) // 2 : len(text) // 2 + 5]
            cut = httpx.post(f"{url}/v1/completions", json=asked | {"stop": stop}, timeout=60)
            metrics = httpx.get(f"{url}/metrics", timeout=60).text
        said[mode] = [(it["choices"], it["usage"]) for it in (whole, cut.json())]
        assert {it["finish_reason"] for it in whole["choices"]} == {"length"}
        assert stop not in cut.json()["choices"][0]["text"]
        accepted = re.search(
            r"^thirdeye_spec_decode_num_accepted_tokens_total\S* (\S+)", metrics, re.MULTILINE
        )
        assert accepted is not None
        assert (float(accepted[1]) > 30) == (mode == "ngram")
    assert said["ngram"] == said["off"]


def test_settings_bound_the_drafts(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    core = load(tmp_path, num_draft_tokens=1)
    run_all(core, [request("a", [10, 20, 30, 20])])
    stats = core.stats()
    assert 0 < stats.spec_decode_num_draft_tokens_total <= stats.steps_total
    core = load(tmp_path, max_tokens_with_drafts=1)
    run_all(core, [request("a", [10, 20, 30, 20])])
    assert core.stats().spec_decode_num_draft_tokens_total == 0
