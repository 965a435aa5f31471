"""What rank 0 tells the other ranks, over a socket to each: typed structs, nothing else.

Rank 0 thinks: it schedules, samples and talks to the server. The others are told what to load, how
many blocks to keep, and then one batch after the other; they answer while they load. What they
compute together crosses between the model's ranks, not here.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from msgspec import Struct

from thirdeye.model.batch import ForwardBatch, GroupBlocks
from thirdeye.model.declare.lora import LoraFactors
from thirdeye.server.engine.distributed.loop_messages import Captured, LoopMessage
from thirdeye.server.engine.distributed.rank_link import Heartbeat
from thirdeye.server.engine.interface.trace import TraceRequest
from thirdeye.server.engine.run_ahead.device_loop import LoopSizes

FAILURE_GRACE = 1.0  # seconds in which a rank tells why, before others tell what they saw of it


class Join(Struct, frozen=True, tag=True):
    """What to load, where the ranks meet, and which of them this is."""

    recipe: bytes
    rank: int
    meeting_path: str = ""  # a file, or
    meeting_host: str = ""  # for ranks of several hosts an address of rank 0's
    meeting_port: int = 0


class Started(Struct, frozen=True, tag=True):
    """The rank's process has started: from here on nobody should keep another waiting."""


class Loading(Struct, frozen=True, tag=True):
    """A sign of life: another tensor is in."""


class Loaded(Struct, frozen=True, tag=True):
    """The rank's weights are in."""


class Failed(Struct, frozen=True, tag=True):
    """Why a rank cannot take part, or go on: fit for the operator."""

    message: str


class InitCache(Struct, frozen=True, tag=True):
    """Sizes all ranks agree on: as many blocks as the rank with the least room has, or as few as a
    trial needs (`server/engine/core/profile_run.py`)."""

    num_blocks: int
    block_size: int
    max_inspection_rows: int  # of a piece of an inspection
    is_trial: bool
    num_states: int = 0
    loop: LoopSizes | None = None  # None: no step is launched ahead


class Measure(Struct, frozen=True, tag=True):
    """How much is left for keys and values? A trial, if there was one, is over."""


class Measured(Struct, frozen=True, tag=True):
    """So many bytes."""

    kv_budget: int


class Compute(Struct, frozen=True, tag=True):
    """One step: the fields of its `ForwardBatch` in order, end to end as 32-bit integers."""

    sizes: list[int]  # of each field, in numbers
    data: bytes
    has_hidden: bool  # whether the final hidden states are wanted, too


class PackedFactors(Struct, frozen=True, array_like=True):
    """`LoraFactors`, as rank 0 read them; A and B in float32."""

    layer: str
    part: str | None
    rank: int
    a: bytes
    b: bytes


class PutAdapter(Struct, frozen=True, tag=True):
    """Load an adapter, of which this rank has its share."""

    number: int
    factors: list[PackedFactors]


class DropAdapter(Struct, frozen=True, tag=True):
    """No later step has it."""

    number: int


class StartInspection(Struct, frozen=True, tag=True):
    """Begin to look into a text."""

    request: TraceRequest


class ContinueInspection(Struct, frozen=True, tag=True):
    """The next piece of that."""

    request_id: str


class EndInspection(Struct, frozen=True, tag=True):
    """It is over, or nobody reads it any more."""

    request_id: str


Inspection = StartInspection | ContinueInspection | EndInspection
ToRank = (
    Join
    | InitCache
    | Measure
    | Compute
    | PutAdapter
    | DropAdapter
    | Inspection
    | LoopMessage
    | Heartbeat
)
FromRank = Started | Loading | Loaded | Measured | Captured | Failed | Heartbeat


def pack_adapter(number: int, factors: Sequence[LoraFactors]) -> PutAdapter:
    return PutAdapter(
        number,
        [
            PackedFactors(f.layer, f.part, f.rank, f.a.numpy().tobytes(), f.b.numpy().tobytes())
            for f in factors
        ],
    )


def unpack_adapter(message: PutAdapter) -> list[LoraFactors]:
    def numbers(data: bytes) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(data, np.float32).copy())

    return [
        LoraFactors(f.layer, f.part, numbers(f.a).view(f.rank, -1), numbers(f.b).view(-1, f.rank))
        for f in message.factors
    ]


OF_ONE_RANK = ("layer_inputs", "hidden", "looked_up", "stream")


def pack_batch(batch: ForwardBatch, has_hidden: bool) -> Compute:
    """On a GPU one copy to the host, of all fields together."""
    nothing = batch.positions[:0]
    instead = {  # of what is no tensor
        "num_singles": torch.tensor([batch.num_singles], device=batch.input_ids.device),
        "state_spans": nothing if batch.state_spans is None else batch.state_spans,
        "adapter_slots": nothing if batch.adapter_slots is None else batch.adapter_slots,
    }
    others = [x for own in batch.other_groups for x in (own.slot_mapping, own.block_table)]
    instead["other_groups"] = torch.cat([x.flatten().long() for x in others] or [nothing])
    # What layers are told besides, each rank's model makes of the ids; heads that guess, which read
    # hidden states, are of one rank.
    assert batch.hidden is None
    names = [field.name for field in dataclasses.fields(batch) if field.name not in OF_ONE_RANK]
    fields = [instead[name] if name in instead else getattr(batch, name) for name in names]
    data = torch.cat([field.flatten().to(torch.int32) for field in fields]).cpu()
    return Compute([field.numel() for field in fields], data.numpy().tobytes(), has_hidden)


def unpack_batch(message: Compute, device: torch.device) -> ForwardBatch:
    """On a GPU one copy to the device."""
    words = np.frombuffer(message.data, np.int32).copy()
    data = torch.from_numpy(words).to(device)
    *tensors, spans, adapter_slots, others = data.split_with_sizes(message.sizes)
    input_ids, positions, slots, starts, seq_lens, table, indices, _ = tensors
    table = table.view(len(seq_lens), -1)
    num_singles = int(words[len(words) - sum(message.sizes[-3:]) - 1])
    return ForwardBatch(
        input_ids=input_ids.long(),
        positions=positions.long(),
        slot_mapping=slots.long(),
        query_start_loc=starts,
        seq_lens=seq_lens,
        block_table=table,
        logits_indices=indices.long(),
        num_singles=num_singles,
        state_spans=spans.view(-1, 4) if len(spans) else None,
        adapter_slots=adapter_slots if len(adapter_slots) else None,
        other_groups=tuple(_groups(others, slots, table)),
    )


def _groups(words: torch.Tensor, slots: torch.Tensor, table: torch.Tensor) -> Iterator[GroupBlocks]:
    """Of each other group its slots and its table, which are as large as the first group's."""
    sizes = [len(slots), table.numel()]
    for start in range(0, len(words), sum(sizes)):
        own_slots, own_table = words[start : start + sum(sizes)].split_with_sizes(sizes)
        yield GroupBlocks(own_slots.long(), own_table.view(table.shape))
