"""A loop that runs ahead on several ranks: rank 0's side, which the launcher has, and the others'.

Each rank has its own `DeviceLoop`. What rank 0's does the others are told first, in the same order,
so that sums over ranks meet, those in graphs as well. A rank that is lost in a replay says nothing,
and the sum that the others wait in is the device's, which has no limit: so each rank looks whether
its device has done a step within `timeout` seconds, rank 0 where it reads one, the others before
they launch the next but one. A device that has not is the end of the engine.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.distributed.loop_messages import (
    BeginDecode,
    BeginPrefill,
    LoopMessage,
    Prepare,
    ReplayDecode,
    SampleDecoded,
    SamplePrefill,
    pack_indices,
    pack_masks,
    pack_update,
    unpack_indices,
    unpack_masks,
    unpack_update,
)
from thirdeye.server.engine.distributed.rank_messages import Compute, pack_batch, unpack_batch
from thirdeye.server.engine.run_ahead.cuda_stream import DeviceEvent, wait_for
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_loop import DeviceLoop
from thirdeye.server.engine.run_ahead.device_sampler import SamplingMode
from thirdeye.server.engine.run_ahead.device_state import StateUpdate
from thirdeye.server.engine.run_ahead.prefill_step import PrefillIndices

CPU = torch.device("cpu")
T = TypeVar("T")


class OtherRanks(Protocol):
    """As rank 0 has them."""

    def broadcast(self, message: LoopMessage, /) -> None: ...

    def compare_captures(self, own: list[str]) -> None:
        """`EngineDead` if another rank has captured others, or in another order."""

    def compute(self, work: Callable[[], T]) -> T:
        """Do rank 0's share; what it raises ends the engine."""


class DistributedLoop:
    """Rank 0's `StepLoop`. Inputs are wanted on the host, from where all ranks get them."""

    inputs_on = CPU

    def __init__(self, others: OtherRanks, own: DeviceLoop, device: torch.device) -> None:
        self._others, self._own, self._device = others, own, device

    def prepare(self) -> None:
        self._others.broadcast(Prepare())
        self._others.compute(self._own.prepare)
        self._others.compare_captures(self._own.graphs.captured)

    def replay(self, update: StateUpdate, bucket: int, mode: SamplingMode) -> Tensor:
        return self._chosen(ReplayDecode(pack_update(update), bucket, mode))

    def begin_decode(self, update: StateUpdate, bucket: int) -> None:
        self._share(BeginDecode(pack_update(update), bucket))

    def sample_decoded(self, bucket: int, mode: SamplingMode, masks: MaskUpdate | None) -> Tensor:
        return self._chosen(SampleDecoded(bucket, mode, pack_masks(masks)))

    def begin_prefill(
        self, update: StateUpdate, batch: ForwardBatch, indices: PrefillIndices, mode: SamplingMode
    ) -> Tensor:
        packed = pack_batch(batch, has_hidden=False)
        return self._chosen(
            BeginPrefill(
                pack_update(update),
                (packed.sizes, packed.data),
                pack_indices(indices),
                indices.num_top,
                mode,
            )
        )

    def sample_prefill(self, masks: MaskUpdate | None) -> Tensor:
        return self._chosen(SamplePrefill(pack_masks(masks)))

    def _chosen(self, message: LoopMessage) -> Tensor:
        result = self._share(message)
        assert result is not None
        return result

    def _share(self, message: LoopMessage) -> Tensor | None:
        """Rank 0 hears what the others do, and does it in the same way."""
        self._others.broadcast(message)
        return self._others.compute(lambda: follow(self._own, message, self._device))


def follow(loop: DeviceLoop, message: LoopMessage, device: torch.device) -> Tensor | None:
    """Do one piece of a step, as any rank does it."""
    match message:
        case ReplayDecode(update, bucket, mode):
            return loop.replay(unpack_update(update, device), bucket, mode)
        case BeginDecode(update, bucket):
            loop.begin_decode(unpack_update(update, device), bucket)
        case SampleDecoded(bucket, mode, masks):
            return loop.sample_decoded(bucket, mode, unpack_masks(masks, device))
        case BeginPrefill():
            batch = unpack_batch(Compute(*message.batch, has_hidden=False), device)
            indices = unpack_indices(message.indices, message.num_top, device)
            told = unpack_update(message.update, device)
            return loop.begin_prefill(told, batch, indices, message.mode)
        case SamplePrefill(masks):
            return loop.sample_prefill(unpack_masks(masks, device))
        case Prepare():
            loop.prepare()
    return None


class RecordedEvent(DeviceEvent, Protocol):
    def record(self) -> None: ...


class StepWatch:
    """Of a rank that follows, which reads nothing: whether its device does its steps.

    `make_event` is None where work is done at once and fails by itself, as on a CPU.
    """

    def __init__(self, make_event: Callable[[], RecordedEvent] | None, timeout: float) -> None:
        """`timeout` is in seconds."""
        self._make_event, self._timeout = make_event, timeout
        self._last: RecordedEvent | None = None

    def launched(self) -> None:
        """A step was. `EngineDead` if the one before it is not done in time."""
        if self._make_event is None:
            return
        before, self._last = self._last, self._make_event()
        self._last.record()
        if before is not None:
            wait_for(before, self._timeout)
