"""A draft model that is often right, and its slow twin, which keeps nothing."""

from collections.abc import Sequence as Seq
from typing import Any

import torch

from tests.engine.toy import ToyCache, ToyModel
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.draft_model import DraftModel, make_shadow
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.speculation.proposer import DraftAsk, DraftRoom
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


class HalfRight(ToyModel):
    """The toy model, but for texts whose content says so: there it means another token."""

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> torch.Tensor:
        logits = super()._row(batch, kv_cache, t)
        return logits.roll(1) if float(logits[1]) > 0.5 else logits


def draft_config(target: EngineConfig, num_blocks: int | None = None) -> EngineConfig:
    return EngineConfig(
        max_model_len=min(target.max_model_len, (num_blocks or target.num_blocks) * 4),
        num_blocks=num_blocks or target.num_blocks,
        block_size=4,
        max_num_seqs=target.max_num_seqs,
        max_num_batched_tokens=target.max_num_batched_tokens,
        eos_token_ids=target.eos_token_ids,
        enable_prefix_caching=target.enable_prefix_caching,
    )


class Checks(DraftModel):
    """Each guess is the one that its twin makes, and blocks are accounted for. In every third step
    nobody is asked, so that texts go on alone."""

    num_steps = num_checked = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, clock=lambda: 0.0)
        self.seen: set[Sequence] = set()

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        self.num_steps += 1
        if self.num_steps % 3 == 0:
            return [[] for _ in asks]
        proposed = super().propose(asks, room)
        self.seen |= {ask.sequence for ask in asks}
        self.check(asks, proposed)
        return proposed

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        """A head has blocks for a text from its first step on, before it is asked about it."""
        self.seen |= {row.sequence for row in plan.rows}
        super().stepped(plan, result)

    def check(self, asks: Seq[DraftAsk], proposed: Seq[Seq[int]]) -> None:
        assert not self._has_failed
        self.check_integrity(list(self.seen))
        for ask, guesses in zip(asks, proposed, strict=True):
            assert not self._eos & set(guesses) or ask.sequence.request.sampling.ignore_eos
            if guesses:
                assert guesses == self.twin(ask.sequence, len(guesses)), "a stale guess"
                self.num_checked += len(guesses)

    def twin(self, sequence: Sequence, num_guesses: int) -> list[int]:
        """The same guesses, by the whole text."""
        raise AssertionError(f"{type(self)} has no twin")


class Checked(Checks):
    def __init__(self, config: EngineConfig) -> None:
        cache = ToyCache(config.num_blocks, config.block_size)
        super().__init__(ModelRunner(HalfRight(), cache, config, "cpu"), config)

    def twin(self, sequence: Sequence, num_guesses: int) -> list[int]:
        return twin_guesses(HalfRight(), self._config, sequence, num_guesses)


def twin_guesses(
    model: ToyModel,
    config: EngineConfig,
    sequence: Sequence,
    num_guesses: int,
    num_known: int | None = None,
) -> list[int]:
    """Behind the first `num_known` tokens of a text, in a cache that holds nothing else."""
    shadow = make_shadow(sequence)
    shadow.token_ids = sequence.token_ids[:num_known]
    start, size = len(shadow.token_ids), config.block_size
    for _ in range(num_guesses):
        end = len(shadow.token_ids)
        shadow.blocks = BlockTables([list(range(-(-end // size)))], [0])
        runner = ModelRunner(model, ToyCache(-(-end // size), size), config, "cpu")
        row = PlanRow(shadow, 0, end, 0, 0, is_sampled=True)
        (found,) = runner.run(StepPlan([row])).rows
        shadow.token_ids += found.token_ids
    return shadow.token_ids[start:]


def drafting_core(
    config: EngineConfig, num_blocks: int | None = None
) -> tuple[EngineCore, Checked]:
    """An engine whose guesses are all checked."""
    proposer = Checked(draft_config(config, num_blocks))
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu")
    return EngineCore(config, runner, Scheduler(config, proposer=proposer)), proposer
