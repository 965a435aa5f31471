"""A draft model that guesses on the device: its steps between those of the served model, both
replayed from graphs on one stream.

The model guesses for itself, so most guesses are right, and it never finds that it takes too long.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from tests.gpu.checks.loop_checks import (
    begun,
    bench_of,
    repeated,
    repeated_by,
    steps_wait_for_nothing,
)
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.server.bench.engine import EngineBench
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.draft_ahead import DraftAhead
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.sampling.sampler import sample
from thirdeye.server.load.drafting import load_draft
from thirdeye.server.load.overlap import SCRAP_BLOCKS, make_launcher

ROWS = 3
LONGEST = 200  # tokens of a text
BYTES = 1 << 24  # for what the draft model keeps of texts


def drafted(bench: EngineBench) -> EngineCore:
    """As a server with `--draft` builds it, but for a warm-up."""
    config = EngineConfig(
        max_model_len=LONGEST,
        num_blocks=ROWS * (LONGEST // BLOCK_SIZE + 2),
        block_size=BLOCK_SIZE,
        max_num_seqs=ROWS,
        max_num_batched_tokens=512,
        steps_ahead=1,
        num_draft_tokens=4,
    )
    model, device = bench.model, bench.device
    checkpoint: Any = None  # whose name nobody asks
    size, kv_dtype = bench.config.vocab_size, bench.kv_dtype
    draft = load_draft.LoadedDraft(checkpoint, model, size, kv_dtype, device)
    untimed = partial(DraftAhead, clock=lambda: 0.0)
    with patch.multiple(load_draft, DraftAhead=untimed, warm_up=lambda *_: None):
        made = draft.make(config, BYTES, sample)
    num_blocks = config.num_blocks + SCRAP_BLOCKS
    cache = make_kv_cache(bench.config, num_blocks, BLOCK_SIZE, kv_dtype, device)
    launcher = make_launcher(model, cache, config, device, guesses=made.on_device)
    runner = ModelRunner(model, cache, config, device)
    return EngineCore(config, runner, launcher=launcher, proposer=made.proposer)


def guesses_agree(device: torch.device) -> None:
    """Against steps that are read before the next and guess nothing."""
    bench = bench_of(device, "on")
    core = drafted(bench)
    ahead, accepted = repeated_by(bench, core)
    plain, _ = repeated(bench_of(device, "off"), 0)
    assert ahead == plain
    assert accepted > 60
    assert not core.stats().is_draft_paused


def no_step_waits(device: torch.device) -> None:
    """Steady steps with guesses read nothing of the device but by events of their own."""
    bench = bench_of(device, "on")
    core = begun(bench, drafted(bench), ROWS)
    before = core.stats().spec_decode_num_draft_tokens_total
    steps_wait_for_nothing(core, 10, device)
    assert core.stats().spec_decode_num_draft_tokens_total >= before + 20


CHECKS: dict[str, Callable[[torch.device], None]] = {
    "guesses of a draft model agree": guesses_agree,
    "no step with guesses of a draft model waits": no_step_waits,
}
