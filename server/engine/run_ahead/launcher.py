"""Steps that are launched without knowing what the step before them has said.

A row's newest token may still be on its way to the host: the device has it, and that is where it is
needed. Plans in which every row has one token are decode steps, replayed from a graph; others (a
prompt's chunk among them) are computed eagerly, and take what the host does not know from the same
state. What a step chose, and what it says of prompts, is read later, from its `Flight`.

A grammar is asked on the host, and has to know the token before. A step with such a row is launched
like any other but for its choice, which `choose` submits, with the masks, once the step before was
read. The device computes the layers meanwhile.

`can_launch` says what is left to `ModelRunner`, after all that is in flight was read: embeddings,
guesses to be verified, and requests that the device's state has no room for.
"""

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.execution.input_batch import build_batch
from thirdeye.server.engine.grammar.bitmask import fill_mask
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import num_words
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, make_buckets
from thirdeye.server.engine.run_ahead.cuda_stream import Stream
from thirdeye.server.engine.run_ahead.decode_step import Chooser, DecodeSteps, Way
from thirdeye.server.engine.run_ahead.device_biases import have_room
from thirdeye.server.engine.run_ahead.device_bitmask import ToldMasks
from thirdeye.server.engine.run_ahead.device_state import DeviceState, Layout, News
from thirdeye.server.engine.run_ahead.in_flight import Flight
from thirdeye.server.engine.run_ahead.prefill_step import ChunkStep, find_places
from thirdeye.server.engine.run_ahead.slot_table import Slots, Told
from thirdeye.server.engine.sampling.host_chooser import reporting
from thirdeye.server.engine.sampling.sampler import Ranking, plan_ranking
from thirdeye.server.engine.scheduling.sequence import SequenceStatus
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

Forward = Callable[[ForwardBatch], Tensor]


class Launcher(Protocol):
    """What `EngineCore` needs to run ahead."""

    def can_launch(self, plan: StepPlan) -> bool: ...

    def launch(self, plan: StepPlan) -> Flight: ...

    def choose(self, flight: Flight) -> None: ...


class DeviceLauncher:
    """Launches plans on one device, in the order in which they come.

    `forward` is the model with its KV cache, which has a block more than the scheduler knows of:
    block `config.num_blocks` is scrap. `max_model_len` is `config`'s, or more.
    """

    def __init__(
        self,
        forward: Forward,
        config: EngineConfig,
        vocab_size: int,
        device: torch.device,
        capture: Capture,
        stream: Stream,
        max_model_len: int | None = None,
    ) -> None:
        num_slots, block_size = config.max_num_seqs, config.block_size
        max_blocks = -(-(max_model_len or config.max_model_len) // block_size)
        layout = Layout(num_slots, max_blocks, len(config.eos_token_ids))
        with torch.inference_mode():
            state = DeviceState(layout, config.num_blocks, vocab_size, device)
            choose = Chooser(state)
            self._steps = DecodeSteps(forward, state, choose, block_size, vocab_size, capture)
        self._state, self._choose = state, choose
        self._slots = Slots(layout, block_size, vocab_size, config.eos_token_ids)
        self._buckets = make_buckets(num_slots)
        self._forward, self._stream = forward, stream
        self._block_size, self._vocab_size, self._device = block_size, vocab_size, device
        self._eos_token_ids = config.eos_token_ids
        self._is_cuda = device.type == "cuda"

    def prepare(self) -> None:
        """Capture the usual steps, greedy and drawn, for any number of rows: no answer waits."""
        with torch.inference_mode():
            for bucket in reversed(self._buckets):  # the largest take the memory that all share
                for ranking in (None, Ranking(0, is_enough=True, has_floor=False)):
                    self._steps.prepare(bucket, Way(ranking))

    def can_launch(self, plan: StepPlan) -> bool:
        """Whether no row needs the host between the step before and this one."""
        return all(self._can_launch(row) for row in plan.rows)

    def _can_launch(self, row: PlanRow) -> bool:
        if row.draft_token_ids or row.is_embedding:
            return False
        sequence = row.sequence
        return sequence in self._slots or have_room(
            sequence.request.sampling, self._eos_token_ids, self._vocab_size
        )

    def launch(self, plan: StepPlan) -> Flight:
        """Begin a step; `plan` is one that can be launched. May raise what the model raises.

        Unless a row has a grammar it is the whole step; else `choose` is to follow.
        """
        rows = plan.rows
        is_decode = all(row.is_sampled and row.num_scheduled_tokens == 1 for row in rows)
        told = self._slots.follow(rows, is_decode=is_decode)
        masked = [
            (i, t.slot)
            for i, (t, row) in enumerate(zip(told, rows, strict=True))
            if row.is_sampled and row.sequence.request.grammar
        ]
        way = self._plan_way(told, rows, is_masked=bool(masked))
        if is_decode:
            flight = self._decode(plan, told, way, masked)
        else:
            flight = self._chunk(plan, told, way, masked)
        if not masked:
            flight.choices = self._stream.submit(partial(flight.choose, None))
        return flight

    def _plan_way(self, told: list[Told], rows: list[PlanRow], *, is_masked: bool) -> Way:
        sampled = [(t, row) for t, row in zip(told, rows, strict=True) if row.is_sampled]
        wishes = [row.sequence.request.sampling for _, row in sampled]
        drawn = [t.knobs for t, _ in sampled if t.knobs.temperature > 0]
        return Way(
            ranking=plan_ranking(drawn, self._vocab_size, may_look=False) if drawn else None,
            is_penalized=any(t.is_penalized for t, _ in sampled),
            has_logprobs=any(sampling.logprobs is not None for sampling in wishes),
            is_biased=any(sampling.logit_bias for sampling in wishes)
            or any(t.holds_back(row.end) for t, row in sampled),
            is_masked=is_masked,
        )

    def _decode(
        self, plan: StepPlan, told: list[Told], way: Way, masked: list[tuple[int, int]]
    ) -> Flight:
        slots = [t.slot for t in told]
        bucket = self._buckets[bisect_left(self._buckets, len(slots))]
        self._slots.choose_rows(slots, bucket)
        news, num_rows = self._slots.take(pin=self._is_cuda), len(slots)
        if not masked:
            return Flight(plan, partial(self._replay, news, bucket, way, num_rows), masked)
        self._stream.run(partial(self._begin_decode, news, bucket))
        return Flight(plan, partial(self._choose_decoded, bucket, way, num_rows), masked)

    def _replay(
        self, news: News, bucket: int, way: Way, num_rows: int, masks: ToldMasks | None
    ) -> Tensor:
        assert masks is None
        self._state.apply(news)
        return self._steps.replay(bucket, way)[:num_rows]

    def _begin_decode(self, news: News, bucket: int) -> None:
        self._state.apply(news)
        self._steps.begin(bucket)

    def _choose_decoded(
        self, bucket: int, way: Way, num_rows: int, masks: ToldMasks | None
    ) -> Tensor:
        self._state.masks.apply(masks)
        return self._steps.choose(bucket, way)[:num_rows]

    def _chunk(
        self, plan: StepPlan, told: list[Told], way: Way, masked: list[tuple[int, int]]
    ) -> Flight:
        batch = build_batch(plan, self._block_size, self._device)
        news = self._slots.take(pin=self._is_cuda)
        places = find_places(plan.rows, told, self._send)
        step = ChunkStep(self._forward, self._state, self._choose, batch, news, places, way)
        flight = Flight(plan, step.choose, masked)
        if len(places.scores):
            flight.scores = self._stream.submit(step.begin)
        else:
            self._stream.run(step.begin)
        return flight

    def _send(self, numbers: list[int]) -> Tensor:
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._is_cuda:
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def choose(self, flight: Flight) -> None:
        """The rest of a step, if there is one, once all before it were read."""
        if flight.choices is None:
            masks = self._make_masks(flight)
            flight.choices = self._stream.submit(partial(flight.choose, masks))

    def _make_masks(self, flight: Flight) -> ToldMasks:
        """Of the rows that have not ended meanwhile. One that can have none fails alone."""
        rows = flight.plan.rows
        here = [
            (i, slot)
            for i, slot in flight.masked
            if rows[i].sequence.status is not SequenceStatus.FINISHED
        ]
        size = len(here), num_words(self._vocab_size + 1)  # as `empty_masks`
        words = torch.zeros(size, dtype=torch.int32, pin_memory=self._is_cuda)
        for mask, (i, _) in zip(words.numpy(), here, strict=True):
            with reporting(flight.failed, i, rows[i].sequence):
                fill_mask(rows[i].sequence, mask)
        return ToldMasks(self._send([slot for _, slot in here]), words)
