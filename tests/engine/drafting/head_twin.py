"""A head that is often right, whose guesses depend on every hidden state that it was given, and its
slow twin, which keeps nothing."""

import numpy as np
import torch
from torch import Tensor

from tests.engine.drafting.draft_twin import Checks, draft_config
from tests.engine.toy import ToyCache, ToyModel
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.draft_model import make_shadow
from thirdeye.server.engine.drafting.guessing_head import HeadProposer, HeadStep
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

SIZE = 2  # of a hidden state: the toy model's are a token and its position


class HeadCache(ToyCache):
    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.hidden = torch.full((num_blocks * block_size, SIZE), -7.0)


class ToyHead(ToyModel):
    """Says what the toy model does, but where the hidden states of the text add up otherwise."""

    def with_hidden(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> tuple[Tensor, Tensor]:
        assert isinstance(kv_cache, HeadCache)
        assert batch.hidden is not None
        kv_cache.hidden[batch.slot_mapping] = batch.hidden
        own = batch.hidden * 0.5 + batch.input_ids[:, None]  # [T, SIZE], its own hidden states
        return self(batch, kv_cache), own

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> Tensor:
        assert isinstance(kv_cache, HeadCache)
        logits = super()._row(batch, kv_cache, t)
        b = int(batch.query_start_loc.numpy().searchsorted(t, side="right")) - 1
        seen = np.arange(int(batch.positions[t]) + 1)
        blocks = batch.block_table[b].numpy()[seen // kv_cache.block_size]
        slots = blocks * kv_cache.block_size + seen % kv_cache.block_size
        weights = (seen * 7 % 11 + 1)[:, None]
        total = float((kv_cache.hidden.numpy()[slots] * weights).sum())
        return logits.roll(1 + int(total) % 5) if int(total) % 3 == 0 else logits


def fresh(config: EngineConfig, num_blocks: int) -> tuple[ModelRunner, HeadStep]:
    step = HeadStep(ToyHead(), SIZE, "cpu")
    return ModelRunner(step, HeadCache(num_blocks, 4), config, "cpu"), step


class CheckedHead(Checks, HeadProposer):
    def __init__(self, config: EngineConfig) -> None:
        super().__init__(*fresh(config, config.num_blocks), config)

    def twin(self, sequence: Sequence, num_guesses: int) -> list[int]:
        """The whole text again for each guess, with the hidden states that the toy model has."""
        shadow = make_shadow(sequence)
        shadow.token_ids = list(sequence.token_ids)
        num_known = len(shadow.token_ids)
        rows = [[float(t), float(p)] for p, t in enumerate(shadow.token_ids[:-1])]
        before = torch.tensor([[0.0] * SIZE, *rows])
        for _ in range(num_guesses):
            end = len(shadow.token_ids)
            shadow.blocks = BlockTables([list(range(-(-end // 4)))], [0])
            runner, step = fresh(self._config, 64)
            step.before = before
            row = PlanRow(shadow, 0, end, 0, 0, is_sampled=True)
            (found,) = runner.run(StepPlan([row])).rows
            shadow.token_ids += found.token_ids
            before = torch.cat([before, step.after[-1:]])
        return shadow.token_ids[num_known:]


def headed_core(
    config: EngineConfig, num_blocks: int | None = None
) -> tuple[EngineCore, CheckedHead]:
    """An engine whose guesses are all checked."""
    proposer = CheckedHead(draft_config(config, num_blocks))
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu", tells_hidden=True)
    return EngineCore(config, runner, Scheduler(config, proposer=proposer)), proposer
