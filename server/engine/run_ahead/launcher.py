"""Steps that are launched without knowing what the step before them has said.

A row's newest token may still be on its way to the host: the device has it, and that is where it is
needed. Plans in which every row has one token are decode steps, replayed from a graph; others (a
prompt's chunk among them) are computed eagerly, and take what the host does not know from the same
state. What a step chose, and what it says of prompts, is read later, from its `LaunchedStep`.

A grammar is asked on the host, and has to know the token before. A step with such a row is launched
like any other but for sampling, which `sample` submits, with the masks, once the step before was
read. The device computes the layers meanwhile.

`can_launch` says what is left to `ModelRunner`, after all that was launched is read: embeddings,
adapters, and requests that the device's state has no room for.
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from thirdeye.model.batch import LookUp
from thirdeye.model.fast_path import FastPath
from thirdeye.server.engine.execution.input_batch import build_batch
from thirdeye.server.engine.grammar.bitmask import fill_mask
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import num_words
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture
from thirdeye.server.engine.run_ahead.cuda_stream import DeviceStream
from thirdeye.server.engine.run_ahead.device_biases import fits_device_state
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_loop import DeviceLoop, Forward, LoopSizes, StepLoop
from thirdeye.server.engine.run_ahead.device_sampler import SamplingMode
from thirdeye.server.engine.run_ahead.device_state import DeviceState, StateUpdate
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.prefill_step import make_prefill_indices
from thirdeye.server.engine.run_ahead.slot_table import SlotState, SlotTable
from thirdeye.server.engine.sampling.host_sampler import recording_failure
from thirdeye.server.engine.sampling.sampler import plan_ranking
from thirdeye.server.engine.scheduling.sequence import SequenceStatus
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

NOTHING_NEW = StateUpdate(None, None)


class DeviceGuesses(Protocol):
    """What makes the drafts of rows that are `is_guessed_ahead`."""

    def launch(self, rows: list[PlanRow], slots: list[int], state: DeviceState) -> None:
        """Of a step that has such rows, and these slots: write their drafts to `state.drafts`,
        where it will look for them. `state` is as the host and the step before have left it."""


class Launcher:
    """Launches plans on one device, in the order in which they come.

    `forward` is the model with its KV cache, which has a block more than the scheduler knows of:
    block `config.num_blocks` is scrap, and so is row `config.num_states` of the states that it may
    keep. Its logits may be of any floats. `look_up` is what it would look up. `max_model_len` is
    `config`'s, or more. `share`: what has other ranks do what this one's loop does. `guesses`:
    what makes drafts on the device.
    """

    def __init__(
        self,
        forward: Forward,
        config: EngineConfig,
        vocab_size: int,
        device: torch.device,
        capture: Capture,
        stream: DeviceStream,
        max_model_len: int | None = None,
        look_up: LookUp | None = None,
        share: Callable[[DeviceLoop], StepLoop] | None = None,
        guesses: DeviceGuesses | None = None,
    ) -> None:
        sizes = LoopSizes.of(config, max_model_len or config.max_model_len)
        own = DeviceLoop(forward, sizes, vocab_size, device, capture, look_up)
        self._loop: StepLoop = share(own) if share else own
        self.state, self._buckets = own.state, own.buckets
        self._guesses = guesses
        self._verifies = sizes.most_rows_verified > 0
        self._slots = SlotTable(own.layout, config.block_size, vocab_size, config.eos_token_ids)
        self.stream = stream
        self._block_size, self._vocab_size = config.block_size, vocab_size
        self._eos_token_ids = config.eos_token_ids
        self._pins = self._loop.inputs_on.type == "cuda"
        self.fast_path = FastPath("step ahead")  # which rows with adapters do not take

    def prepare(self) -> None:
        """Capture all graphs, for any number of rows: no answer waits for one."""
        self._loop.prepare()

    def can_launch(self, plan: StepPlan) -> bool:
        """Whether no row needs the host between the step before and this one."""
        rows = plan.rows
        has_drafts = any(row.draft_token_ids for row in rows)
        if has_drafts and not (self._verifies and all(row.is_decoded for row in rows)):
            return False
        return all(self._can_launch(row) for row in rows)

    def _can_launch(self, row: PlanRow) -> bool:
        if row.is_embedding:
            return False
        sequence = row.sequence
        if sequence.request.adapter:
            self.fast_path.num_missed += 1
            return False
        return sequence in self._slots or fits_device_state(
            sequence.request.sampling, self._eos_token_ids, self._vocab_size
        )

    def launch(self, plan: StepPlan) -> LaunchedStep:
        """Begin a step; `plan` is one that can be launched. May raise what the model raises.

        Unless a row has a grammar it is the whole step; else `sample` is to follow.
        """
        # Rows of one token go first: attention treats them apart from a prompt's chunk.
        plan = StepPlan(sorted(plan.rows, key=lambda row: row.real_end - row.start > 1))
        rows = plan.rows
        is_decode = all(row.is_decoded for row in rows)
        states = self._slots.sync(rows, is_decode=is_decode)
        masked = [
            (i, t.slot)
            for i, (t, row) in enumerate(zip(states, rows, strict=True))
            if row.is_sampled and row.sequence.request.is_constrained
        ]
        mode = self._sampling_mode(states, rows, is_masked=bool(masked))
        if is_decode:
            step = self._decode(plan, states, mode, masked)
        else:
            step = self._prefill(plan, states, mode, masked)
        if not masked:
            step.sampled = self.stream.submit(partial(step.sample, None))
        return step

    def _sampling_mode(
        self, states: list[SlotState], rows: list[PlanRow], *, is_masked: bool
    ) -> SamplingMode:
        sampled = [(state, row) for state, row in zip(states, rows, strict=True) if row.is_sampled]
        wishes = [row.sequence.request.sampling for _, row in sampled]
        drawn = [s.draw_params for s, _ in sampled if s.draw_params.temperature > 0]
        return SamplingMode(
            ranking=plan_ranking(drawn, self._vocab_size, may_look=False) if drawn else None,
            is_penalized=any(state.is_penalized for state, _ in sampled),
            has_logprobs=any(sampling.logprobs is not None for sampling in wishes),
            is_biased=any(sampling.logit_bias for sampling in wishes)
            or any(state.holds_back(row.real_end) for state, row in sampled),
            is_masked=is_masked,
            is_verified=any(row.draft_token_ids for row in rows),
        )

    def _decode(
        self,
        plan: StepPlan,
        states: list[SlotState],
        mode: SamplingMode,
        masked: list[tuple[int, int]],
    ) -> LaunchedStep:
        places = [
            (state.slot, offset, draft)
            for state, row in zip(states, plan.rows, strict=True)
            for offset, draft in enumerate((0, *row.draft_token_ids))
        ]
        bucket = self._buckets[bisect_left(self._buckets, len(places))]
        self._slots.set_rows(places, bucket)
        update, num_rows = self._slots.pop_update(pin=self._pins), len(places)
        drafts = guessed_at = None
        if any(row.is_guessed_ahead for row in plan.rows):
            assert self._guesses is not None, "nobody makes these guesses"
            self.stream.run(partial(self.state.apply, update))
            update = NOTHING_NEW
            self._guesses.launch(plan.rows, [state.slot for state in states], self.state)
            drafts = self.stream.submit(lambda: self.state.drafts[:num_rows])
            guessed_at = time.perf_counter()
        if not masked:
            begun = partial(self._replay, update, bucket, mode, num_rows)
        else:
            self.stream.run(partial(self._loop.begin_decode, update, bucket))
            begun = partial(self._sample_decoded, bucket, mode, num_rows)
        return LaunchedStep(plan, begun, masked, drafts=drafts, guessed_at=guessed_at)

    def place(self, rows: list[PlanRow]) -> tuple[list[int], Callable[[], Tensor]]:
        """For rows of one token that somebody puts into the state, with their positions: the slots
        to put them in; and a step, which goes on from there and gives [bucket, W] until it is done
        again, from what it has left."""
        states = self._slots.sync(rows, is_decode=True, are_placed=True)
        mode = self._sampling_mode(states, rows, is_masked=False)
        bucket = self._buckets[bisect_left(self._buckets, len(rows))]
        self._slots.set_rows([(state.slot, 0, 0) for state in states], bucket)
        self.stream.run(partial(self.state.apply, self._slots.pop_update(pin=self._pins)))
        step = partial(self._loop.replay, NOTHING_NEW, bucket, mode)
        return [state.slot for state in states], step

    def _replay(
        self,
        update: StateUpdate,
        bucket: int,
        mode: SamplingMode,
        num_rows: int,
        masks: MaskUpdate | None,
    ) -> Tensor:
        assert masks is None
        return self._loop.replay(update, bucket, mode)[:num_rows]

    def _sample_decoded(
        self, bucket: int, mode: SamplingMode, num_rows: int, masks: MaskUpdate | None
    ) -> Tensor:
        return self._loop.sample_decoded(bucket, mode, masks)[:num_rows]

    def _prefill(
        self,
        plan: StepPlan,
        states: list[SlotState],
        mode: SamplingMode,
        masked: list[tuple[int, int]],
    ) -> LaunchedStep:
        batch = build_batch(plan, self._block_size, self._loop.inputs_on)
        update = self._slots.pop_update(pin=self._pins)
        indices = make_prefill_indices(plan.rows, states, self.send)
        begin = partial(self._loop.begin_prefill, update, batch, indices, mode)
        step = LaunchedStep(plan, self._loop.sample_prefill, masked)
        if len(indices.scores):
            step.scores = self.stream.submit(begin)
        else:
            self.stream.run(begin)
        return step

    def send(self, numbers: list[int]) -> Tensor:
        """[n] int64, on the device."""
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._pins:
            tensor = tensor.pin_memory()
        return tensor.to(self._loop.inputs_on, non_blocking=True)

    def sample(self, step: LaunchedStep) -> None:
        """The rest of a step, if there is one, once all before it were read."""
        if step.sampled is None:
            masks = self._make_masks(step)
            step.sampled = self.stream.submit(partial(step.sample, masks))

    def _make_masks(self, step: LaunchedStep) -> MaskUpdate:
        """Of the rows that have not ended meanwhile. One that can have none fails alone."""
        rows = step.plan.rows
        here = [
            (i, slot)
            for i, slot in step.masked
            if rows[i].sequence.status is not SequenceStatus.FINISHED
        ]
        size = len(here), num_words(self._vocab_size + 1)  # as `empty_masks`
        words = torch.zeros(size, dtype=torch.int32, pin_memory=self._pins)
        for mask, (i, _) in zip(words.numpy(), here, strict=True):
            with recording_failure(step.failed, i, rows[i].sequence):
                fill_mask(rows[i].sequence, mask)
        return MaskUpdate(self.send([slot for _, slot in here]), words)
