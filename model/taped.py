"""The blocks of a transformer, replayed from tape where a step is small enough for that to pay.

A tape (`model/native/tapes/tape.py`) is for one shape of step: so many tokens, so many tiles of
queries, tables so wide. The second step of a shape is recorded, for many shapes come but once, and
from then on a step of it copies its inputs into the tape's and replays. Steps of many tokens are
not worth it. An operation that only torch does is found out at the first recording and named
(`model/fast_path.py`): it stays torch's, between two segments of the tape. If it cannot be noted
for that (`model/native/tapes/torch_call.py`), the model's steps run as they are.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch, GroupBlocks
from thirdeye.model.fast_path import FastPath
from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.tape import Tape
from thirdeye.model.native.tapes.torch_call import Unrecordable
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.step_inputs import copy_inputs, flatten

MAX_TOKENS = 64
MAX_TAPES = 256  # of some 100 kB; their buffers are the same memory

Rotations = tuple[Rotation, ...]
Plans = tuple[Any, ...]
Stream = Tensor | tuple[Tensor, Tensor | None]  # or it and what is still to be added to it
Blocks = Callable[[Tensor, ForwardBatch, Rotations, KVCache, Plans], Any]


def tape_blocks(
    blocks: Blocks, where: Placement, attention: AttentionBackend, tape: FastPath
) -> Blocks:
    """What runs a step through `blocks`, on tape where that can be; `tape` is told where not."""
    if where.device.type != "cpu":
        return blocks  # there are graphs for that
    if where.dtype is not torch.float32:
        tape.refuse("native kernels are for float32 alone")
    elif where.native is None:
        tape.refuse("there are no native kernels")
    elif where.ranks.size > 1:
        tape.refuse("ranks meet between their operations")
    elif not isinstance(attention, NativeAttention):
        tape.refuse(f"{type(attention).__name__} is torch's")
    else:
        return TapedBlocks(where.native, blocks, tape)
    return UntapedBlocks(blocks, tape)


class UntapedBlocks:
    """What `blocks` does, and the steps are counted that might have come from tape."""

    def __init__(self, blocks: Blocks, tape: FastPath) -> None:
        self._blocks, self._tape = blocks, tape

    def __call__(
        self,
        x: Tensor,
        batch: ForwardBatch,
        rotations: Rotations,
        kv_cache: KVCache,
        plans: Plans,
    ) -> Stream:
        self._tape.num_missed += len(x) <= MAX_TOKENS
        stream: Stream = self._blocks(x, batch, rotations, kv_cache, plans)
        return stream


class TapedBlocks:
    """What `blocks` does, from tape where possible. The result is good until the next call."""

    def __init__(self, library: Library, blocks: Blocks, tape: FastPath) -> None:
        self._library, self._blocks, self._tape = library, blocks, tape
        self._memory: list[Tensor] = []
        # By the shape of the step. None: of this shape one step was seen.
        self._recordings: dict[object, _Recording | None] = {}
        self._kv_cache: KVCache | None = None  # the one that is on tape

    def __call__(
        self,
        x: Tensor,
        batch: ForwardBatch,
        rotations: Rotations,
        kv_cache: KVCache,
        plans: Plans,
    ) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        if x.shape[0] <= MAX_TOKENS and self._tape.is_taken:
            others = tuple([group.slot_mapping for group in batch.other_groups])
            own = (batch.slot_mapping, batch.adapter_slots, batch.layer_inputs, others)
            inputs: _Inputs = (x, own, rotations, plans)
            try:
                shape, tensors = flatten(inputs)
                recording = self._find(shape, inputs, kv_cache)
            except Unrecordable as error:
                self._tape.refuse(str(error))
                self._recordings.clear()
            else:
                if recording is not None:
                    self._tape.num_missed += bool(recording.done_by_torch)
                    return recording.replay(tensors)
        if not self._tape.is_taken:
            self._tape.num_missed += len(x) <= MAX_TOKENS
        stream: Tensor = self._blocks(x, batch, rotations, kv_cache, plans)
        return stream

    def _find(
        self, shape: list[object], inputs: "_Inputs", kv_cache: KVCache
    ) -> "_Recording | None":
        """The tape for these inputs, made if this is the second time that their shape is seen."""
        if kv_cache is not self._kv_cache:
            self._recordings.clear()
            self._kv_cache = kv_cache
        key = (torch.get_num_threads(), *shape)
        newest, recording = next(reversed(self._recordings.items()), (None, None))
        if recording is not None and key == newest:
            return recording  # most often: to compare is quicker than to hash three times
        recording = None
        if key in self._recordings:
            recording = self._recordings.pop(key) or _Recording(
                self._library, self._blocks, inputs, kv_cache, self._memory
            )
            if recording.done_by_torch:
                self._tape.interrupt(", ".join(recording.done_by_torch))
        elif len(self._recordings) >= MAX_TAPES:
            del self._recordings[next(iter(self._recordings))]  # what was longest not asked for
        self._recordings[key] = recording  # as the newest
        return recording


# Of a batch all that blocks read: slots, adapters' slots and layers' inputs if there are any, and
# the slots of other groups of layers.
_OfBatch = tuple[Tensor, Tensor | None, Tensor | None, tuple[Tensor, ...]]
_Inputs = tuple[Tensor, _OfBatch, Rotations, Plans]


class _Recording:
    """A tape and where its inputs lie."""

    def __init__(
        self,
        library: Library,
        blocks: Blocks,
        inputs: _Inputs,
        kv_cache: KVCache,
        memory: list[Tensor],
    ) -> None:
        own: _Inputs = copy_inputs(inputs)
        _, self._places = flatten(own)
        x, of_batch, rotations, plans = own
        batch = _batch_of(*of_batch)
        self._tape = Tape(library, lambda: blocks(x, batch, rotations, kv_cache, plans), memory)
        self.done_by_torch = self._tape.done_by_torch

    def replay(self, tensors: list[Tensor]) -> Tensor:
        for place, tensor in zip(self._places, tensors, strict=True):
            place.copy_(tensor)
        return self._tape.replay()


def _batch_of(
    slot_mapping: Tensor,
    adapter_slots: Tensor | None,
    layer_inputs: Tensor | None,
    others: tuple[Tensor, ...],
) -> ForwardBatch:
    """A step of which a block can see these alone: all else would be that of one step."""
    nothing = torch.empty(0)
    step = ForwardBatch(nothing, nothing, slot_mapping, *(nothing,) * 4)
    return replace(
        step,
        adapter_slots=adapter_slots,
        layer_inputs=layer_inputs,
        other_groups=tuple([GroupBlocks(slots, nothing) for slots in others]),
    )
