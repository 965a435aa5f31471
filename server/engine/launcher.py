"""Steps that are launched without knowing what the step before them has said.

A row's newest token may still be on its way to the host: the device has it, and that is where it is
needed. Plans in which every row has one token are decode steps, replayed from a graph; others (a
prompt's chunk among them) are computed eagerly, and take what the host does not know from the same
state. What a step chose is read later, from its `Flight`.

Some rows must be known to the host before they go on: their grammar has to be asked, their prompt
scored. A plan with one of them is none that can be launched, see `can_launch`; `ModelRunner`
computes it, after all that is in flight was read.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from model.batch import ForwardBatch
from server.engine.config import EngineConfig
from server.engine.decode import Choice, Chooser, DecodeSteps, Way, read_choices
from server.engine.graphs import Capture, make_buckets
from server.engine.inputs import build_batch
from server.engine.logprobs import read_scores
from server.engine.plan import PlanRow, RowResult, StepPlan, StepResult
from server.engine.runner import BROKEN_LOGITS
from server.engine.sampler import Ranking, plan_ranking
from server.engine.slots import DeviceState, News, Slots, Told, Word
from server.engine.stream import Stream, Ticket

Forward = Callable[[ForwardBatch], Tensor]


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that was launched. `read` waits for it."""

    plan: StepPlan
    ticket: Ticket

    def read(self) -> StepResult:
        samples = iter(read_choices(self.ticket.wait()))  # of the sampled rows, in order
        return StepResult(
            [
                _row_result(row, next(samples)) if row.is_sampled else RowResult()
                for row in self.plan.rows
            ]
        )


def _row_result(row: PlanRow, choice: Choice) -> RowResult:
    if not choice.is_finite:
        return RowResult(error=BROKEN_LOGITS)
    num_top, logprobs = row.sequence.request.sampling.logprobs, None
    if num_top is not None and choice.scores is not None:
        logprobs = read_scores([choice.scores], [num_top])
    return RowResult(token_ids=[choice.token_id], logprobs=logprobs)


class Launcher(Protocol):
    """What `EngineCore` needs to run ahead."""

    def can_launch(self, plan: StepPlan) -> bool: ...

    def launch(self, plan: StepPlan) -> Flight: ...


class DeviceLauncher:
    """Launches plans on one device, in the order in which they come.

    `forward` is the model with its KV cache, which has a block more than the scheduler knows of:
    block `config.num_blocks` is scrap.
    """

    def __init__(
        self,
        forward: Forward,
        config: EngineConfig,
        vocab_size: int,
        device: torch.device,
        capture: Capture,
        stream: Stream,
    ) -> None:
        num_slots, block_size = config.max_num_seqs, config.block_size
        max_blocks = -(-config.max_model_len // block_size)
        with torch.inference_mode():
            state = DeviceState(num_slots, max_blocks, config.num_blocks, vocab_size, device)
            choose = Chooser(state)
            self._steps = DecodeSteps(forward, state, choose, block_size, vocab_size, capture)
        self._state, self._choose = state, choose
        self._slots = Slots(num_slots, state.width, block_size, vocab_size)
        self._buckets = make_buckets(num_slots)
        self._forward, self._stream = forward, stream
        self._block_size, self._vocab_size, self._device = block_size, vocab_size, device
        self._is_cuda = device.type == "cuda"

    def prepare(self) -> None:
        """Capture the usual steps, greedy and drawn, for any number of rows: no answer waits."""
        with torch.inference_mode():
            for bucket in reversed(self._buckets):  # the largest take the memory that all share
                for ranking in (None, Ranking(0, is_enough=True, has_floor=False)):
                    self._steps.prepare(bucket, Way(ranking))

    def can_launch(self, plan: StepPlan) -> bool:
        """Whether no row needs the host between the step before and this one."""
        return not any(_needs_host(row) for row in plan.rows)

    def launch(self, plan: StepPlan) -> Flight:
        """Begin a step; `plan` is one that can be launched. May raise what the model raises."""
        rows = plan.rows
        is_decode = all(row.is_sampled and row.num_scheduled_tokens == 1 for row in rows)
        told = self._slots.follow(rows, is_decode=is_decode)
        sampled = [(t, row) for t, row in zip(told, rows, strict=True) if row.is_sampled]
        way = self._plan_way(sampled)
        slots = [t.slot for t, _ in sampled]
        work = self._decode(slots, way) if is_decode else self._chunk(plan, told, slots, way)
        return Flight(plan, self._stream.submit(work))

    def _plan_way(self, sampled: list[tuple[Told, PlanRow]]) -> Way:
        drawn = [t.knobs for t, _ in sampled if t.knobs.temperature > 0]
        return Way(
            ranking=plan_ranking(drawn, self._vocab_size, may_look=False) if drawn else None,
            is_penalized=any(t.is_penalized for t, _ in sampled),
            has_logprobs=any(
                row.sequence.request.sampling.logprobs is not None for _, row in sampled
            ),
        )

    def _decode(self, slots: list[int], way: Way) -> Callable[[], Tensor]:
        bucket = self._buckets[bisect_left(self._buckets, len(slots))]
        self._slots.choose_rows(slots, bucket)
        news = self._slots.take(pin=self._is_cuda)
        return partial(self._run_decode, news, bucket, way, len(slots))

    def _run_decode(self, news: News, bucket: int, way: Way, num_rows: int) -> Tensor:
        self._state.apply(news)
        return self._steps.replay(bucket, way)[:num_rows]

    def _chunk(
        self, plan: StepPlan, told: list[Told], slots: list[int], way: Way
    ) -> Callable[[], Tensor]:
        batch = build_batch(plan, self._block_size, self._device)
        unknown: list[tuple[int, int]] = []  # (place in the step, slot) of tokens not read yet
        end = 0
        for row, t in zip(plan.rows, told, strict=True):
            end += row.num_scheduled_tokens
            if row.num_pending_tokens:
                unknown.append((end - 1, t.slot))
        news = self._slots.take(pin=self._is_cuda)
        return partial(self._run_chunk, news, batch, self._send(unknown), self._send(slots), way)

    def _send(self, numbers: list[int] | list[tuple[int, int]]) -> Tensor:
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._is_cuda:
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _run_chunk(
        self, news: News, batch: ForwardBatch, unknown: Tensor, slots: Tensor, way: Way
    ) -> Tensor:
        state = self._state
        state.apply(news)
        if len(unknown):
            places, owners = unknown.unbind(1)  # [n] each
            tokens = state.table[:, Word.TOKEN].index_select(0, owners).long()
            batch.input_ids.index_copy_(0, places, tokens)
        logits = self._forward(batch).float()  # [S, vocab_size]
        if not len(slots):
            return torch.empty(0, 2, dtype=torch.int64, device=self._device)
        positions = state.table[:, Word.POSITION].index_select(0, slots).long()
        return self._choose(logits, slots, positions, way)


def _needs_host(row: PlanRow) -> bool:
    sequence = row.sequence
    sampling = sequence.request.sampling
    return bool(
        row.draft_token_ids
        or row.is_embedding
        or sequence.request.grammar
        or row.score_start < row.score_end
        or sampling.logit_bias
        or sequence.num_generated_tokens < sampling.min_tokens
    )
