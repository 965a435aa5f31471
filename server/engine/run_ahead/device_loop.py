"""What is done on one device, step after step: the words of the slots, then a replay or a chunk.

    replay                           a decode step, from a graph
    begin_decode, sample_decoded     the same in two, where rows wait for a grammar's mask
    begin_prefill, sample_prefill    a step with a prompt's chunk in it

The launcher says it in the order in which a stream does it. With several ranks each has a loop of
its own, and is told the same in the same order (`server/engine/distributed/loop_messages.py`): all
of them have all logits, and noise is a function of seed and position, so each draws the same tokens
and none has to be told.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch, LookUp
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, make_buckets
from thirdeye.server.engine.run_ahead.decode_step import DecodeGraphs
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_sampler import DeviceSampler, SamplingMode
from thirdeye.server.engine.run_ahead.device_state import DeviceState, StateLayout, StateUpdate
from thirdeye.server.engine.run_ahead.prefill_step import PrefillIndices, PrefillStep

Forward = Callable[[ForwardBatch], Tensor]


@dataclass(frozen=True, slots=True)
class LoopSizes:
    """What a loop is made by, on every rank."""

    num_slots: int
    max_blocks: int  # of one sequence
    num_eos: int
    num_groups: int  # of layers
    block_size: int
    scrap_block: int
    scrap_state: int | None  # None: no layer keeps a state
    most_rows_verified: int = 0  # of a step that verifies guesses

    @classmethod
    def of(cls, config: EngineConfig, max_model_len: int) -> Self:
        """For texts of `max_model_len`."""
        return cls(
            num_slots=config.max_num_seqs,
            max_blocks=-(-max_model_len // config.block_size),
            num_eos=len(config.eos_token_ids),
            num_groups=len(config.windows),
            block_size=config.block_size,
            scrap_block=config.num_blocks,
            scrap_state=config.num_states or None,
            most_rows_verified=config.most_rows_verified,
        )


class StepLoop(Protocol):
    """As the launcher has it."""

    inputs_on: torch.device  # where batches, indices and slots of masks are wanted

    def prepare(self) -> None:
        """Capture all graphs, before the first step."""

    def replay(self, update: StateUpdate, bucket: int, mode: SamplingMode) -> Tensor:
        """What the first `bucket` rows chose, [bucket, W]."""

    def begin_decode(self, update: StateUpdate, bucket: int) -> None:
        """Compute their logits."""

    def sample_decoded(self, bucket: int, mode: SamplingMode, masks: MaskUpdate | None) -> Tensor:
        """And what they chose of these, [bucket, W]."""

    def begin_prefill(
        self, update: StateUpdate, batch: ForwardBatch, indices: PrefillIndices, mode: SamplingMode
    ) -> Tensor:
        """Compute a chunk's step -> what is said of the prompts, [L, W]."""

    def sample_prefill(self, masks: MaskUpdate | None) -> Tensor:
        """What its sampled rows chose, [S, W]."""


class DeviceLoop:
    """`StepLoop` of one device."""

    def __init__(
        self,
        forward: Forward,
        sizes: LoopSizes,
        vocab_size: int,
        device: torch.device,
        capture: Capture,
        look_up: LookUp | None = None,
    ) -> None:
        """`forward` is the model with its KV cache; its logits may be of any floats. `look_up` is
        what it would look up of tokens and positions."""
        layout = StateLayout(
            sizes.num_slots,
            sizes.max_blocks,
            sizes.num_eos,
            sizes.num_groups,
            sizes.most_rows_verified,
        )
        self.buckets = make_buckets(layout.num_rows)
        most = layout.most_rows_verified
        largest = self.buckets[bisect_left(self.buckets, most)] if most else 0
        self.layout, self.inputs_on = layout, device
        with torch.inference_mode():
            self.state = DeviceState(
                layout, sizes.scrap_block, vocab_size, device, sizes.scrap_state
            )
            self._sampler = DeviceSampler(self.state)
            self.graphs = DecodeGraphs(
                forward,
                self.state,
                self._sampler,
                sizes.block_size,
                vocab_size,
                capture,
                look_up,
                largest_verified=largest,
            )
        self._forward, self._block_size = forward, sizes.block_size
        self._prefill: PrefillStep | None = None

    def prepare(self) -> None:
        """For any number of rows: no answer waits for a capture. With several ranks sums are
        captured too, so each captures in this order."""
        with torch.inference_mode():
            for bucket in reversed(self.buckets):  # the largest take the memory that all share
                self.graphs.prepare(bucket)

    def replay(self, update: StateUpdate, bucket: int, mode: SamplingMode) -> Tensor:
        self.state.apply(update)
        return self.graphs.replay(bucket, mode)

    def begin_decode(self, update: StateUpdate, bucket: int) -> None:
        self.state.apply(update)
        self.graphs.begin(bucket)

    def sample_decoded(self, bucket: int, mode: SamplingMode, masks: MaskUpdate | None) -> Tensor:
        self.state.masks.apply(masks)
        return self.graphs.sample(bucket, mode)

    def begin_prefill(
        self, update: StateUpdate, batch: ForwardBatch, indices: PrefillIndices, mode: SamplingMode
    ) -> Tensor:
        self._prefill = PrefillStep(
            self._forward,
            self.state,
            self._sampler,
            batch,
            self._block_size,
            update,
            indices,
            mode,
        )
        return self._prefill.begin()

    def sample_prefill(self, masks: MaskUpdate | None) -> Tensor:
        assert self._prefill is not None, "there are no logits to sample from"
        step, self._prefill = self._prefill, None  # its logits are not to be kept
        return step.sample(masks)
