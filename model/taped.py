"""A step of the transformer, replayed from tape where it is small enough for that to pay.

A tape (`model/native/tapes/tape.py`) is for one shape of step: so many tokens, so many tiles of
queries, tables so wide. The second step of a shape is recorded, for many shapes come but once, and
from then on a step of it copies its inputs into the tape's and replays. Steps of many tokens are
not worth it. An operation that only torch does is found out at the first recording and named
(`model/fast_path.py`): it stays torch's, between two segments of the tape. If it cannot be noted
for that (`model/native/tapes/torch_call.py`), the model's steps run as they are.
"""

from collections.abc import Callable
from operator import add
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.attention.native import NativeAttention, rounded_blocks, rounded_width
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch, GroupBlocks, PlainStep
from thirdeye.model.fast_path import FastPath
from thirdeye.model.native.library import Library
from thirdeye.model.native.paged_attention import Tiles
from thirdeye.model.native.tapes.plain_inputs import PlainInputs
from thirdeye.model.native.tapes.tape import Tape
from thirdeye.model.native.tapes.torch_call import Unrecordable
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.step_inputs import copy_inputs, flatten

MAX_TOKENS = 64
MAX_TAPES = 256  # of some 100 kB; their buffers are the same memory

Plans = tuple[Any, ...]
Forward = Callable[[ForwardBatch, KVCache, Plans], Any]


def tape_steps(
    forward: Forward,
    where: Placement,
    attention: AttentionBackend,
    tape: FastPath,
    memory: list[Tensor],
) -> Forward:
    """What computes a step by `forward`, on tape where that can be; `tape` is told where not.
    `memory`: of all tapes of a model, which are never needed at once."""
    if where.device.type != "cpu":
        return forward  # there are graphs for that
    if where.dtype is not torch.float32:
        tape.refuse("native kernels are for float32 alone")
    elif where.native is None:
        tape.refuse("there are no native kernels")
    elif where.ranks.size > 1:
        tape.refuse("ranks meet between their operations")
    elif not isinstance(attention, NativeAttention):
        tape.refuse(f"{type(attention).__name__} is torch's")
    else:
        return TapedSteps(where.native, forward, tape, memory)
    return UntapedSteps(forward, tape)


class UntapedSteps:
    """What `forward` does, and the steps are counted that might have come from tape."""

    def __init__(self, forward: Forward, tape: FastPath) -> None:
        self._forward, self._tape = forward, tape

    def __call__(self, batch: ForwardBatch, kv_cache: KVCache, plans: Plans) -> Any:
        self._tape.num_missed += len(batch.positions) <= MAX_TOKENS
        return self._forward(batch, kv_cache, plans)


class TapedSteps:
    """What `forward` does, from tape where possible. The result is good until the next call."""

    def __init__(
        self, library: Library, forward: Forward, tape: FastPath, memory: list[Tensor]
    ) -> None:
        self._library, self._forward, self._tape = library, forward, tape
        self._memory = memory
        # By the shape of the step. None: of this shape one step was seen.
        self._recordings: dict[object, _Recording | None] = {}
        self._plain: dict[object, _Recording] = {}  # those whose steps are plain
        self._kv_cache: KVCache | None = None  # the one that is on tape

    def __call__(self, batch: ForwardBatch, kv_cache: KVCache, plans: Plans) -> Tensor:
        is_small = batch.positions.shape[0] <= MAX_TOKENS
        if is_small and self._tape.is_taken:
            inputs: _Inputs = (_read_of(batch), plans)
            try:
                shape, tensors = flatten(inputs)
                recording = self._find(shape, inputs, kv_cache)
            except Unrecordable as error:
                self._tape.refuse(str(error))
                self._forget_all()
            else:
                if recording is not None:
                    self._tape.num_missed += bool(recording.done_by_torch)
                    return recording.replay(tensors)
        if not self._tape.is_taken:
            self._tape.num_missed += is_small
        result: Tensor = self._forward(batch, kv_cache, plans)
        return result

    def replay_plain(self, kv_cache: KVCache, step: PlainStep) -> Tensor | None:
        """The step's result if there is a tape of its shape: no call of torch is needed then."""
        ends = map(add, step.starts, step.counts)
        key = (
            torch.get_num_threads(),
            len(step.token_ids),
            len(step.starts),
            rounded_width(max(map(len, step.tables))),
            max(step.counts),
            rounded_blocks(max(ends)),
        )
        recording = self._plain.get(key)
        if recording is None or kv_cache is not self._kv_cache:
            return None
        self._tape.num_missed += bool(recording.done_by_torch)
        return recording.replay_plain(step)

    def _forget_all(self) -> None:
        self._recordings.clear()
        self._plain.clear()

    def _find(
        self, shape: list[object], inputs: "_Inputs", kv_cache: KVCache
    ) -> "_Recording | None":
        """The tape for these inputs, made if this is the second time that their shape is seen."""
        if kv_cache is not self._kv_cache:
            self._forget_all()
            self._kv_cache = kv_cache
        key = (torch.get_num_threads(), *shape)
        newest, recording = next(reversed(self._recordings.items()), (None, None))
        if recording is not None and key == newest:
            return recording  # most often: to compare is quicker than to hash three times
        recording = None
        if key in self._recordings:
            recording = self._recordings.pop(key) or _Recording(
                self._library, self._forward, inputs, kv_cache, self._memory
            )
            if recording.plain_key is not None:
                self._plain[torch.get_num_threads(), *recording.plain_key] = recording
            if recording.done_by_torch:
                self._tape.interrupt(", ".join(recording.done_by_torch))
        elif len(self._recordings) >= MAX_TAPES:
            self._drop_oldest()
        self._recordings[key] = recording  # as the newest
        return recording

    def _drop_oldest(self) -> None:
        """What was longest not asked for: a plain step leaves but a mark that it was."""
        while True:
            key = next(iter(self._recordings))
            oldest = self._recordings.pop(key)
            if oldest is None or not oldest.was_plain:
                break
            oldest.was_plain = False
            self._recordings[key] = oldest
        self._plain = {k: own for k, own in self._plain.items() if own is not oldest}


# Of a batch all that is read: where the stream begins or what it begins with, positions, slots,
# whose logits are wanted (None: each token's), adapters' slots, layers' inputs, and the slots of
# other groups of layers.
_Read = tuple[Tensor, bool, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Any]
_Inputs = tuple[_Read, Plans]


def _read_of(batch: ForwardBatch) -> _Read:
    stream = batch.stream
    return (
        batch.input_ids if stream is None else stream,
        stream is None,
        batch.positions,
        batch.slot_mapping,
        None if batch.asks_each else batch.logits_indices,
        batch.adapter_slots,
        batch.layer_inputs,
        tuple([group.slot_mapping for group in batch.other_groups]),
    )


def _batch_of(read: _Read) -> ForwardBatch:
    """A step of which these alone can be seen: all else would be that of one step."""
    first, is_ids, positions, slots, asked, adapter_slots, layer_inputs, others = read
    nothing = torch.empty(0)
    return ForwardBatch(
        input_ids=first if is_ids else nothing,
        positions=positions,
        slot_mapping=slots,
        query_start_loc=nothing,
        seq_lens=nothing,
        block_table=nothing,
        logits_indices=positions if asked is None else asked,  # of each: nobody looks at it
        num_singles=len(positions) if asked is None else 0,
        adapter_slots=adapter_slots,
        layer_inputs=layer_inputs,
        stream=None if is_ids else first,
        other_groups=tuple([GroupBlocks(own, nothing) for own in others]),
    )


class _Recording:
    """A tape and where its inputs lie."""

    def __init__(
        self,
        library: Library,
        forward: Forward,
        inputs: _Inputs,
        kv_cache: KVCache,
        memory: list[Tensor],
    ) -> None:
        own: _Inputs = copy_inputs(inputs)
        _, self._places = flatten(own)
        read, plans = own
        batch = _batch_of(read)
        self._tape = Tape(library, lambda: forward(batch, kv_cache, plans), memory)
        self.done_by_torch = self._tape.done_by_torch
        self.was_plain = False  # since it was last looked at
        self.plain_key: tuple[int, ...] | None = None  # of a step that decodes, see `_plain`
        match plans:
            case (Tiles() as tiles,) if is_plain(batch, tiles):
                ids, positions, slots = batch.input_ids, batch.positions, batch.slot_mapping
                self._plain = PlainInputs(ids, positions, slots, tiles)
                sizes = tiles.max_queries, tiles.max_blocks
                self.plain_key = (len(positions), *tiles.block_table.shape, *sizes)

    def replay(self, tensors: list[Tensor]) -> Tensor:
        for place, tensor in zip(self._places, tensors, strict=True):
            place.copy_(tensor)
        return self._tape.replay()

    def replay_plain(self, step: PlainStep) -> Tensor:
        self.was_plain = True
        self._plain.write(step)
        return self._tape.replay()


def is_plain(batch: ForwardBatch, tiles: Tiles) -> bool:
    """Whether all that can be seen of it are a `PlainStep`'s numbers. Where the logits of all
    tokens are asked for, it is in their order."""
    others = (batch.stream, batch.adapter_slots, batch.layer_inputs)
    asks_all = batch.logits_indices.shape == batch.positions.shape
    is_tile_each = tiles.tiles.shape[0] == tiles.block_table.shape[0]
    return asks_all and is_tile_each and not batch.other_groups and all(o is None for o in others)
