"""The blocks of a transformer, replayed from tape where a step is small enough for that to pay.

A tape (`model/native/tape.py`) is for one shape of step: so many tokens, so many tiles of queries,
tables so wide. The second step of a shape is recorded, for many shapes come but once, and from then
on a step of it copies its inputs into the tape's and replays. Steps of many tokens are not worth
it, and a model with a part that only torch computes is found out at the first recording.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.native.library import Library
from thirdeye.model.native.tape import Tape, Unrecordable
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache

MAX_TOKENS = 64
MAX_TAPES = 256  # of some 100 kB; their buffers are the same memory

Rotations = tuple[Rotation, ...]
Plans = tuple[Any, ...]
Blocks = Callable[[Tensor, ForwardBatch, Rotations, KVCache, Plans], Tensor]


def can_tape(config: ModelConfig, where: Placement) -> bool:
    """Whether products and rotations are kernels of ours, and this process has the whole model."""
    has_kernels = where.native is not None and where.quantize == "int8"
    return has_kernels and config.rope is not None and where.ranks.size == 1


class TapedBlocks:
    """What `blocks` does, from tape where possible. The result is good until the next call."""

    def __init__(self, library: Library, blocks: Blocks) -> None:
        self._library, self._blocks = library, blocks
        self._memory: list[Tensor] = []
        self._tapes: dict[object, _Recording | None] = {}  # None: of this shape one step was seen
        self._kv_cache: KVCache | None = None  # the one that is on tape
        self._is_recordable = True

    def __call__(
        self,
        x: Tensor,
        batch: ForwardBatch,
        rotations: Rotations,
        kv_cache: KVCache,
        plans: Plans,
    ) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        if len(x) > MAX_TOKENS or not self._is_recordable:
            return self._blocks(x, batch, rotations, kv_cache, plans)
        inputs = _Inputs(x, batch.slot_mapping, rotations, plans)
        recording = self._find(inputs, kv_cache)
        if recording is None:
            return self._blocks(x, batch, rotations, kv_cache, plans)
        return recording.replay(inputs)

    def _find(self, inputs: "_Inputs", kv_cache: KVCache) -> "_Recording | None":
        """The tape for these inputs, made if this is the second time that their shape is seen."""
        if kv_cache is not self._kv_cache:
            self._tapes.clear()
            self._kv_cache = kv_cache
        shape = (torch.get_num_threads(), *map(_shape, _leaves(inputs)))
        recording = None
        if shape in self._tapes:
            recording = self._tapes.pop(shape) or self._record(inputs, kv_cache)
        self._make_room()
        self._tapes[shape] = recording  # as the newest
        return recording

    def _record(self, inputs: "_Inputs", kv_cache: KVCache) -> "_Recording | None":
        try:
            return _Recording(self._library, self._blocks, inputs, kv_cache, self._memory)
        except Unrecordable:
            self._is_recordable = False
            return None

    def _make_room(self) -> None:
        if len(self._tapes) >= MAX_TAPES:
            del self._tapes[next(iter(self._tapes))]  # what was longest not asked for


@dataclasses.dataclass(frozen=True, slots=True)
class _Inputs:
    """All that blocks read of a step."""

    x: Tensor
    slot_mapping: Tensor
    rotations: Rotations
    plans: Plans


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
        own: _Inputs = _copy(inputs)
        self._places = [leaf for leaf in _leaves(own) if isinstance(leaf, Tensor)]
        batch = _batch_of(own.slot_mapping)
        self._tape = Tape(
            library, lambda: blocks(own.x, batch, own.rotations, kv_cache, own.plans), memory
        )

    def replay(self, inputs: _Inputs) -> Tensor:
        tensors = (leaf for leaf in _leaves(inputs) if isinstance(leaf, Tensor))
        for place, tensor in zip(self._places, tensors, strict=True):
            place.copy_(tensor)
        return self._tape.replay()


def _batch_of(slot_mapping: Tensor) -> ForwardBatch:
    """A step of which a block can see the slots alone: all else would be that of one step."""
    nothing = torch.empty(0)
    return ForwardBatch(nothing, nothing, slot_mapping, nothing, nothing, nothing, nothing)


def _leaves(value: Any) -> Iterator[Any]:
    """The tensors and plain values in dataclasses and tuples of such, in order."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _shape(leaf: Any) -> object:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _copy(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.contiguous_format)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: _copy(getattr(value, name)) for name in names})
    if isinstance(value, tuple):
        return tuple(map(_copy, value))
    return value
