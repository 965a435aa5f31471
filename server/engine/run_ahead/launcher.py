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

from bisect import bisect_left
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch, LookUp
from thirdeye.model.fast_path import FastPath
from thirdeye.server.engine.execution.input_batch import build_batch
from thirdeye.server.engine.grammar.bitmask import fill_mask
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import num_words
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, make_buckets
from thirdeye.server.engine.run_ahead.cuda_stream import DeviceStream
from thirdeye.server.engine.run_ahead.decode_step import DecodeGraphs
from thirdeye.server.engine.run_ahead.device_biases import fits_device_state
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_sampler import DeviceSampler, SamplingMode
from thirdeye.server.engine.run_ahead.device_state import DeviceState, StateLayout, StateUpdate
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.prefill_step import PrefillStep, make_prefill_indices
from thirdeye.server.engine.run_ahead.slot_table import SlotState, SlotTable
from thirdeye.server.engine.sampling.host_sampler import recording_failure
from thirdeye.server.engine.sampling.sampler import plan_ranking
from thirdeye.server.engine.scheduling.sequence import SequenceStatus
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

Forward = Callable[[ForwardBatch], Tensor]


class Launcher:
    """Launches plans on one device, in the order in which they come.

    `forward` is the model with its KV cache, which has a block more than the scheduler knows of:
    block `config.num_blocks` is scrap, and so is row `config.num_states` of the states that it may
    keep. Its logits may be of any floats. `look_up` is what it would look up. `max_model_len` is
    `config`'s, or more.
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
    ) -> None:
        num_slots, block_size = config.max_num_seqs, config.block_size
        max_blocks = -(-(max_model_len or config.max_model_len) // block_size)
        layout = StateLayout(
            num_slots,
            max_blocks,
            len(config.eos_token_ids),
            len(config.windows),
            config.most_rows_verified,
        )
        self._buckets = make_buckets(layout.num_rows)
        self._verifies = layout.most_rows_verified > 0
        largest = self._bucket_of(layout.most_rows_verified) if self._verifies else 0
        with torch.inference_mode():
            scrap_state = config.num_states or None
            state = DeviceState(layout, config.num_blocks, vocab_size, device, scrap_state)
            sampler = DeviceSampler(state)
            self._graphs = DecodeGraphs(
                forward,
                state,
                sampler,
                block_size,
                vocab_size,
                capture,
                look_up,
                largest_verified=largest,
            )
        self._state, self._sampler = state, sampler
        self._slots = SlotTable(layout, block_size, vocab_size, config.eos_token_ids)
        self._forward, self._stream = forward, stream
        self._block_size, self._vocab_size, self._device = block_size, vocab_size, device
        self._eos_token_ids = config.eos_token_ids
        self._is_cuda = device.type == "cuda"
        self.fast_path = FastPath("step ahead")  # which rows with adapters do not take

    def prepare(self) -> None:
        """Capture all graphs, for any number of rows: no answer waits for one."""
        with torch.inference_mode():
            for bucket in reversed(self._buckets):  # the largest take the memory that all share
                self._graphs.prepare(bucket)

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
            step.sampled = self._stream.submit(partial(step.sample, None))
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
        bucket = self._bucket_of(len(places))
        self._slots.set_rows(places, bucket)
        update, num_rows = self._slots.pop_update(pin=self._is_cuda), len(places)
        if not masked:
            return LaunchedStep(plan, partial(self._replay, update, bucket, mode, num_rows), masked)
        self._stream.run(partial(self._begin_decode, update, bucket))
        return LaunchedStep(plan, partial(self._sample_decoded, bucket, mode, num_rows), masked)

    def _bucket_of(self, num_rows: int) -> int:
        return self._buckets[bisect_left(self._buckets, num_rows)]

    def _replay(
        self,
        update: StateUpdate,
        bucket: int,
        mode: SamplingMode,
        num_rows: int,
        masks: MaskUpdate | None,
    ) -> Tensor:
        assert masks is None
        self._state.apply(update)
        return self._graphs.replay(bucket, mode)[:num_rows]

    def _begin_decode(self, update: StateUpdate, bucket: int) -> None:
        self._state.apply(update)
        self._graphs.begin(bucket)

    def _sample_decoded(
        self, bucket: int, mode: SamplingMode, num_rows: int, masks: MaskUpdate | None
    ) -> Tensor:
        self._state.masks.apply(masks)
        return self._graphs.sample(bucket, mode)[:num_rows]

    def _prefill(
        self,
        plan: StepPlan,
        states: list[SlotState],
        mode: SamplingMode,
        masked: list[tuple[int, int]],
    ) -> LaunchedStep:
        batch = build_batch(plan, self._block_size, self._device)
        update = self._slots.pop_update(pin=self._is_cuda)
        indices = make_prefill_indices(plan.rows, states, self._send)
        prefill = PrefillStep(
            self._forward,
            self._state,
            self._sampler,
            batch,
            self._block_size,
            update,
            indices,
            mode,
        )
        step = LaunchedStep(plan, prefill.sample, masked)
        if len(indices.scores):
            step.scores = self._stream.submit(prefill.begin)
        else:
            self._stream.run(prefill.begin)
        return step

    def _send(self, numbers: list[int]) -> Tensor:
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._is_cuda:
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def sample(self, step: LaunchedStep) -> None:
        """The rest of a step, if there is one, once all before it were read."""
        if step.sampled is None:
            masks = self._make_masks(step)
            step.sampled = self._stream.submit(partial(step.sample, masks))

    def _make_masks(self, step: LaunchedStep) -> MaskUpdate:
        """Of the rows that have not ended meanwhile. One that can have none fails alone."""
        rows = step.plan.rows
        here = [
            (i, slot)
            for i, slot in step.masked
            if rows[i].sequence.status is not SequenceStatus.FINISHED
        ]
        size = len(here), num_words(self._vocab_size + 1)  # as `empty_masks`
        words = torch.zeros(size, dtype=torch.int32, pin_memory=self._is_cuda)
        for mask, (i, _) in zip(words.numpy(), here, strict=True):
            with recording_failure(step.failed, i, rows[i].sequence):
                fill_mask(rows[i].sequence, mask)
        return MaskUpdate(self._send([slot for _, slot in here]), words)
