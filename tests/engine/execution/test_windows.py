"""Layers that see a window alone: what a long text holds is what arithmetic says, and no bit of its
answer is another."""

import random

import pytest
import torch

from tests.engine.execution.request_mixes import answers, make_core
from tests.engine.toy import make_request
from tests.model.tiny import NEAR, NEAR_AND_FAR, change, random_model
from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request

CONTEXT, CHUNK, WINDOW = 1024, 64, 20
PEAK, STEADY = 7, 3  # blocks of 16 that 19 + 64 tokens, and 20, can reach into
BOTH = change(NEAR_AND_FAR, max_position_embeddings=CONTEXT)
NEAR_ALONE = change(BOTH, num_hidden_layers=2, attention=(AttentionSpec(NEAR, window=WINDOW),) * 2)


def text(seed: int, num_tokens: int, max_tokens: int) -> Request:
    prompt = random.Random(seed).choices(range(97), k=num_tokens)
    return make_request(str(seed), prompt, max_tokens=max_tokens, ignore_eos=True, logprobs=1)


def smallest_core(config: ModelConfig, native: Library) -> EngineCore:
    """With blocks for one text of the whole context, and none to spare."""
    torch.set_num_threads(1)
    windows = kv_groups(config).windows
    far = windows.count(0)
    num_blocks = far * CONTEXT // 16 + (len(windows) - far) * PEAK
    assert num_blocks % len(windows) == 0
    return make_core(
        random_model(config, native=native),
        num_blocks=num_blocks // len(windows),
        max_num_batched_tokens=CHUNK,
    )


@pytest.mark.parametrize("config", [BOTH, NEAR_ALONE], ids=["beside others", "alone"])
def test_a_long_text_holds_what_arithmetic_says(config: ModelConfig, native: Library) -> None:
    """Prompt and answer reach far past the window, and every block is used again and again."""
    core, request = smallest_core(config, native), text(0, num_tokens=900, max_tokens=100)
    windows = kv_groups(config).windows
    core.add(request)
    while core.has_work:
        core.step()
        running = core._scheduler._running
        num_computed = running[0].num_computed_tokens if running else 0
        most = STEADY if num_computed >= 900 else PEAK
        for group, window in enumerate(windows if running else ()):
            used = core.stats().num_blocks_by_group[group]
            whole = -(-len(running[0].token_ids) // 16)
            assert used <= most if window else used in (whole, whole - 1)
    assert core.stats().num_blocks_used == 0
    assert core.stats().num_blocks_total < (CONTEXT // 16) * len(windows)


def test_memory_falls_as_arithmetic_says(native: Library) -> None:
    """Of six layers two keep 1,024 tokens and four seven blocks; before, all kept everything."""
    core = smallest_core(BOTH, native)
    size = kv_bytes_per_block(BOTH, 16, torch.float32, kv_groups(BOTH))
    token = 2 * 4 * BOTH.num_kv_heads * BOTH.head_dim  # bytes, in one layer
    assert core.stats().num_blocks_total * size == (2 * CONTEXT + 4 * PEAK * 16) * token
    before = CONTEXT // 16 * kv_bytes_per_block(BOTH, 16, torch.float32)
    assert before == 6 * CONTEXT * token


@pytest.mark.parametrize("config", [BOTH, NEAR_ALONE], ids=["beside others", "alone"])
def test_one_after_the_other_and_found_again(config: ModelConfig, native: Library) -> None:
    """In blocks that others have left, answers are those of an engine that keeps everything; a
    prefix is found while the window before its end is there."""
    core = smallest_core(config, native)
    requests = [text(seed, num_tokens=300, max_tokens=40) for seed in range(4)]
    plain = make_core(
        random_model(config, native=native),
        keeps_all=True,
        enable_prefix_caching=False,
        max_num_batched_tokens=300,
    )
    expected = answers(plain, requests)
    for request in [*requests, requests[3], requests[0]]:
        assert answers(core, [request]) == {request.request_id: expected[request.request_id]}
        assert core.stats().num_blocks_used == 0
    hits = core.stats().prefix_cache_hits_total
    assert hits >= 256, "what was there a moment ago is computed again"
    assert answers(core, requests) == expected
