"""KV sized by a trial of the largest step: on a device that counts, no later step runs out."""

from dataclasses import dataclass, field
from weakref import finalize

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.cache.device_memory import MemoryUsage
from thirdeye.server.engine.cache.kv_budget import GIB
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.profile_run import (
    MORE_TOKENS,
    MeasuredKVBudget,
    TriedEngine,
    profile_memory,
    trial_config,
)
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams

VOCAB = 30
BLOCK_BYTES = 64


@dataclass
class CountingMemory:
    """A device of a size, whose user says what is taken and given back; beyond it, it raises."""

    total: int
    allocated: int  # weights
    others: int = 0
    peak: int = 0

    def take(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        if self.allocated + self.others > self.total:
            raise torch.OutOfMemoryError(f"{self.allocated + self.others} of {self.total}")

    def give(self, size: int) -> None:
        self.allocated -= size

    def release(self) -> None:
        self.reset_peak()

    def reset_peak(self) -> None:
        self.peak = self.allocated


class Cache:
    """KV blocks that are given back when nobody holds them."""

    def __init__(self, memory: CountingMemory, num_blocks: int) -> None:
        self._memory, self._size = memory, num_blocks * BLOCK_BYTES
        memory.take(self._size)

    def __del__(self) -> None:
        self._memory.allocated -= self._size


@dataclass
class Model:
    """Takes memory by tokens and by scored rows for as long as a step lasts."""

    memory: CountingMemory
    per_token: int
    per_score: int
    state: int = 0  # what an engine keeps beside its cache
    graphs: int = 0  # what all its graphs keep
    seen: list[tuple[int, int, int]] = field(default_factory=list)  # tokens, scores, sequences

    def __call__(self, batch: ForwardBatch, kv_cache: Cache) -> Tensor:
        tokens, scores = len(batch.input_ids), len(batch.logits_indices)
        self.seen.append((tokens, scores, len(batch.seq_lens)))
        size = tokens * self.per_token + scores * self.per_score
        self.memory.take(size)
        self.memory.allocated -= size
        return torch.zeros(scores, VOCAB)

    def with_hidden(self, batch: ForwardBatch, kv_cache: Cache) -> tuple[Tensor, Tensor]:
        raise AssertionError


def make_core(model: Model, config: EngineConfig) -> EngineCore:
    cache = Cache(model.memory, config.num_blocks)
    return EngineCore(config, ModelRunner(model, cache, config, torch.device("cpu")))


def measured(model: Model, num_tokens: int, num_rows: int, share: float = 1.0) -> MemoryUsage:
    sizes = trial_config(num_tokens, num_rows, 4, 256)

    def make(config: EngineConfig) -> TriedEngine:
        core = make_core(model, config)
        model.memory.take(model.state)
        finalize(core, model.memory.give, model.state + model.graphs)
        return TriedEngine(
            core, config.num_blocks * BLOCK_BYTES, lambda: model.memory.take(model.graphs)
        )

    return profile_memory(make, sizes, model.memory, share)


def test_the_largest_step_is_tried() -> None:
    """As many tokens as may be, nearly all of them scored, and then a step of decoding."""
    model = Model(CountingMemory(10**6, 1000), 3, 5)
    measured(model, 64, 8)
    tokens, scores, sequences = model.seen[0]
    assert (tokens, scores, sequences) == (64, 64, 8)
    assert model.seen[-1] == (8, 8, 8)


def test_where_it_goes() -> None:
    """Each part is what it is, and the cache of the trial is in none of them."""
    memory = CountingMemory(10**6, 1000, others=77)
    usage = measured(Model(memory, 3, 5), 64, 8, share=0.5)
    assert usage == MemoryUsage(10**6, 500_000, 77, 1000, 64 * 8, 8 * 8)
    assert usage.kv == 500_000 - 77 - 1000 - 512 - 64
    assert memory.allocated == 1000


def test_what_the_decode_loop_keeps_is_not_the_caches() -> None:
    """It is there while the step is tried, and told apart from both."""
    memory = CountingMemory(10**6, 1000)
    usage = measured(Model(memory, 3, 5, state=700), 64, 8)
    assert (usage.state, usage.step, usage.captured) == (700, 512, 64)
    assert usage.kv == 10**6 - 1000 - 700 - 512 - 64
    assert memory.allocated == 1000
    assert "decode state 0.50," in str(MemoryUsage(GIB, GIB, 0, 0, 0, 0, state=GIB // 2))


def test_all_graphs_are_captured_in_the_trial() -> None:
    """What they keep is there beside a step of decoding."""
    memory = CountingMemory(10**6, 1000)
    usage = measured(Model(memory, 3, 5, state=700, graphs=333), 64, 8)
    assert (usage.state, usage.step, usage.captured) == (700, 512, 64 + 333)
    assert usage.kv == 10**6 - 1000 - 700 - 512 - 64 - 333
    assert memory.allocated == 1000


def test_so_they_are_on_a_rank_that_follows() -> None:
    """The largest step, what the decode loop keeps, and the graphs are there at the same time."""
    memory = CountingMemory(10**6, 1000)
    budget = MeasuredKVBudget(memory, 1.0)
    memory.take(8000)  # the trial's cache
    budget.start_trial()
    memory.take(700)  # state
    memory.take(512)  # a step
    memory.give(512)
    assert budget.num_bytes() == 10**6 - 1000 - 700 - 512  # where nothing is captured
    budget.start_captures()
    memory.take(333)
    memory.take(64)
    memory.give(64)
    assert budget.num_bytes() == 10**6 - 1000 - 700 - 512 - 333 - 64


def test_it_is_told_in_gib() -> None:
    told = str(MemoryUsage(80 * GIB, 72 * GIB, GIB, 15 * GIB, 3 * GIB, GIB // 2))
    assert told == (
        "72.00 of 80.00 GiB: weights 15.00, largest step 3.00, graphs 0.50, others 1.00, KV 52.50"
    )


def test_a_step_that_does_not_fit_is_told_at_start() -> None:
    model = Model(CountingMemory(20_000, 1000), 300, 300)
    with pytest.raises(ValueError, match=r"lower '--max-num-batched-tokens' or '--max-num-seqs'"):
        measured(model, 64, 8)


@given(
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(0, 500),
    st.integers(0, 900),
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 6), st.booleans()), min_size=1, max_size=12
    ),
)
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_no_step_runs_out(
    rows: int, tokens_a_row: int, per_token: int, per_score: int, work: list[tuple[int, int, bool]]
) -> None:
    """All that is left becomes KV blocks; then requests of any mix, as many as come, all end."""
    memory = CountingMemory(60_000 + 100 * (per_token + per_score), 5000, others=123)
    model = Model(memory, per_token, per_score)
    num_tokens = rows * tokens_a_row
    usage = measured(model, num_tokens, rows)
    config = EngineConfig(
        max_model_len=80,
        num_blocks=usage.kv // BLOCK_BYTES,
        block_size=4,
        max_num_seqs=rows,
        max_num_batched_tokens=num_tokens,
    )
    core = make_core(model, config)
    for i, (length, answer, is_scored) in enumerate(work):
        sampling = SamplingParams(
            max_tokens=answer, ignore_eos=True, prompt_logprobs=2 if is_scored else None
        )
        core.add(Request(request_id=str(i), prompt_token_ids=[1] * length, sampling=sampling))
    errors = []
    while core.has_work:
        errors += [output.error for output in core.step() if output.error]
    assert not errors


def test_the_trial_fits_the_models_context() -> None:
    assert trial_config(2048, 4, 16, 100).max_model_len == 100
    assert trial_config(8, 8, 16, 100).max_model_len == 1 + MORE_TOKENS
