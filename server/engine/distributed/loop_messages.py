"""What rank 0 tells the other ranks of a loop that runs ahead: what its launcher puts on its own
stream, in that order. No token is among it: each rank chooses the same."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_penalties import CountsUpdate
from thirdeye.server.engine.run_ahead.device_sampler import SamplingMode
from thirdeye.server.engine.run_ahead.device_state import StateUpdate
from thirdeye.server.engine.run_ahead.prefill_step import PrefillIndices

PackedBatch = tuple[list[int], bytes]  # `Compute.sizes` and `Compute.data`


class PackedTensor(Struct, frozen=True, array_like=True):
    """Whole numbers, of 32 or 64 bits."""

    shape: list[int]
    data: bytes
    is_long: bool


class PackedUpdate(Struct, frozen=True, array_like=True):
    """`StateUpdate`."""

    words: PackedTensor | None
    texts: list[PackedTensor]  # of `CountsUpdate`; none: nothing is said


class PackedMasks(Struct, frozen=True, array_like=True):
    """`MaskUpdate`."""

    slots: PackedTensor
    words: PackedTensor


class Prepare(Struct, frozen=True, tag=True):
    """Capture all graphs, and say which. Sums over ranks are in them: all ranks do it at once."""


class Captured(Struct, frozen=True, tag=True):
    """What a rank has captured, in order."""

    steps: list[str]


class ReplayDecode(Struct, frozen=True, tag=True):
    """A decode step."""

    update: PackedUpdate
    bucket: int
    mode: SamplingMode


class BeginDecode(Struct, frozen=True, tag=True):
    """Its layers alone."""

    update: PackedUpdate
    bucket: int


class SampleDecoded(Struct, frozen=True, tag=True):
    """And the rest of it."""

    bucket: int
    mode: SamplingMode
    masks: PackedMasks | None


class BeginPrefill(Struct, frozen=True, tag=True):
    """A step with a prompt's chunk in it: its layers, and what is said of the prompts."""

    update: PackedUpdate
    batch: PackedBatch
    indices: list[PackedTensor]  # of `PrefillIndices`
    num_top: int
    mode: SamplingMode


class SamplePrefill(Struct, frozen=True, tag=True):
    """And the rest of it."""

    masks: PackedMasks | None


LoopMessage = Prepare | ReplayDecode | BeginDecode | SampleDecoded | BeginPrefill | SamplePrefill


def pack_tensor(x: Tensor) -> PackedTensor:
    """x is on the host: int32 or int64."""
    assert x.device.type == "cpu", "the host would wait for the device"
    is_long = x.dtype == torch.int64
    assert is_long or x.dtype == torch.int32
    return PackedTensor(list(x.shape), x.contiguous().numpy().tobytes(), is_long)


def unpack_tensor(packed: PackedTensor, device: torch.device) -> Tensor:
    numbers = np.frombuffer(packed.data, np.int64 if packed.is_long else np.int32).copy()
    tensor = torch.from_numpy(numbers).view(packed.shape)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def pack_update(update: StateUpdate) -> PackedUpdate:
    words = None if update.words is None else pack_tensor(update.words)
    texts = update.texts
    of_texts = [] if texts is None else [texts.slots, texts.places, texts.words]
    return PackedUpdate(words, [pack_tensor(x) for x in of_texts])


def unpack_update(packed: PackedUpdate, device: torch.device) -> StateUpdate:
    words = None if packed.words is None else unpack_tensor(packed.words, device)
    texts = [unpack_tensor(x, device) for x in packed.texts]
    return StateUpdate(words, CountsUpdate(*texts) if texts else None)


def pack_masks(masks: MaskUpdate | None) -> PackedMasks | None:
    if masks is None:
        return None
    return PackedMasks(pack_tensor(masks.slots), pack_tensor(masks.words))


def unpack_masks(packed: PackedMasks | None, device: torch.device) -> MaskUpdate | None:
    if packed is None:
        return None
    return MaskUpdate(unpack_tensor(packed.slots, device), unpack_tensor(packed.words, device))


def pack_indices(indices: PrefillIndices) -> list[PackedTensor]:
    """Its tensors, in order."""
    values = [getattr(indices, field.name) for field in fields(indices)]
    return [pack_tensor(value) for value in values if isinstance(value, Tensor)]


def unpack_indices(
    packed: Sequence[PackedTensor], num_top: int, device: torch.device
) -> PrefillIndices:
    names = [field.name for field in fields(PrefillIndices) if field.name != "num_top"]
    tensors = {name: unpack_tensor(own, device) for name, own in zip(names, packed, strict=True)}
    return PrefillIndices(num_top=num_top, **tensors)
