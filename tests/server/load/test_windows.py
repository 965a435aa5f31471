"""Checkpoints whose layers have windows, built as the server builds them."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.architectures.table import CASES
from tests.draws import also_at_night, count
from tests.engine.toy import make_request, run_all, tokens_of
from tests.recipes import make_recipe
from tests.tiny import VOCAB_SIZE, save
from thirdeye.model.config import ModelConfig
from thirdeye.model.state.kv_groups import kv_groups, one_group
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.load import kv_memory, load_engine

FLAGS: dict[str, Any] = {
    "device": "cpu", "threads": 1, "quantize": "none", "speculation": "ngram",
    "kv_memory_bytes": 1 << 21, "max_num_batched_tokens": 16, "max_num_seqs": 8,
}  # fmt: skip
GROUPS = {
    "gemma3_text": (0, 7),
    "gemma4_text": (0, 7),  # layers that see all keep half as much
    "gemma4_text-shared": (0, 7),  # or twice, and some read those of others
    "gpt_oss": (0, 7),
    "mistral-window": (7,),
}


def engine(path: Path, **flags: Any) -> tuple[EngineCore, EngineInfo]:
    return load_engine.load_engine(make_recipe(path, [2], **FLAGS | flags), lambda *_: None)


def said(core: EngineCore) -> list[list[int]]:
    """Together, and then one after the other behind prefixes that are known; at a push only as far
    as into the next block."""
    shared = [*range(3, 40)]
    requests = [
        make_request(str(i), [*shared, i + 1, i + 2], max_tokens=count(12, 30), ignore_eos=True)
        for i in range(3)
    ]
    together = run_all(core, requests)
    alone = [run_all(core, [request])[request.request_id] for request in requests]
    return [tokens_of(outputs) for outputs in [*together.values(), *alone]]


def share_of_one(core: EngineCore, info: EngineInfo) -> float:
    """Of the cache's memory, what one text of the whole context takes."""
    return core._scheduler._blocks.held_at_most(info.max_model_len) / info.num_blocks


@also_at_night
@pytest.mark.parametrize(
    "name",
    [
        "gemma3_text",
        "gemma4_text-shared",
        pytest.param("gemma4_text", marks=pytest.mark.prove),
        pytest.param("gpt_oss", marks=pytest.mark.prove),
        pytest.param("mistral-window", marks=pytest.mark.prove),
    ],
)
def test_blocks_behind_windows_are_given_back(tmp_path: Path, name: str) -> None:
    """Gemma 3 and 4, gpt-oss, Mistral: answers are those of an engine where windows are masks, and
    of the same memory more is left."""
    torch.manual_seed(0)
    config = CASES[name].make().config
    config.vocab_size = VOCAB_SIZE
    if getattr(config, "vocab_size_per_layer_input", None):
        config.vocab_size_per_layer_input = VOCAB_SIZE
    save(AutoModelForCausalLM.from_config(config), tmp_path, True)
    core, info = engine(tmp_path)
    assert tuple(dict.fromkeys(info.windows)) == GROUPS[name]
    answers = said(core)
    assert core.stats().prefix_cache_hits_total > 0
    with (
        patch.object(load_engine, "kv_groups", one_group),
        patch.object(kv_memory, "kv_groups", one_group),
    ):
        plain, told = engine(tmp_path)
    assert told.windows == (0,)
    assert said(plain) == answers
    assert share_of_one(core, info) < share_of_one(plain, told)
    drafted, told = engine(tmp_path, draft=str(tmp_path))
    assert said(drafted) == answers
    assert told.draft
    assert drafted.stats().spec_decode_num_draft_tokens_total > 0
    ahead, _ = engine(tmp_path, cuda_graphs="on", attention="reference")
    by_reference, _ = engine(tmp_path, attention="reference")
    assert said(ahead) == said(by_reference)


def test_ranks_agree() -> None:
    """Each finds its groups by itself, from its share of the model."""
    from tests.model.tiny import NEAR_AND_FAR
    from thirdeye.model.parallel.shares import rank_config

    config: ModelConfig = NEAR_AND_FAR
    groups = {num_ranks: kv_groups(rank_config(config, num_ranks)) for num_ranks in (1, 2)}
    assert groups[1] == groups[2]
