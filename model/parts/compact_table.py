"""A table of float32 vectors in fewer bits, where they say exactly the same.

A checkpoint rarely holds its embeddings in 32 bits: what it did hold is found again in the numbers
themselves, and kept only if every bit of the table comes back. So nobody has to say how the file
kept it, and no answer changes. Looked up rows are widened as they are read, a few at a time.

    blocks   a whole number of 8 bits for each channel, a scale of 16 for each 32: ggml's Q8_0
    halves   float16 or bfloat16
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.native.look_up import LookUpKernel

GROUP = 32  # channels that share a scale
LARGEST = 127
SMALLEST = 1e-30  # stands for a scale of 0: it makes no number of zeros
CHUNK = 64  # rows looked at together: what they take stays in the processor's caches


class CompactTable(Protocol):
    """What is left of a table [n, width]."""

    def look_up(self, ids: Tensor) -> Tensor:
        """ids [T] -> the table's rows [T, width] float32, bit for bit."""

    def by_kernel(self, kernel: LookUpKernel) -> Callable[[Tensor], Tensor] | None:
        """What does the same in C; None: it does not know this form."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Each number is one of 16 bits."""

    numbers: Tensor  # [n, width] float16 or bfloat16

    def look_up(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.numbers).float()

    def by_kernel(self, kernel: LookUpKernel) -> Callable[[Tensor], Tensor]:
        return partial(kernel.widened, self.numbers, None)


@dataclass(frozen=True, slots=True)
class Blocks:
    """number * scale: 8 bits by 11 are no more than the 24 that a float32 has, so nothing is
    rounded."""

    numbers: Tensor  # [n, width] int8
    scales: Tensor  # [n, width / GROUP] float16

    def look_up(self, ids: Tensor) -> Tensor:
        scales = F.embedding(ids, self.scales).float().unsqueeze(2)  # [T, groups, 1]
        numbers = F.embedding(ids, self.numbers).view(*scales.shape[:2], GROUP)
        return (numbers * scales).flatten(1)

    def by_kernel(self, kernel: LookUpKernel) -> Callable[[Tensor], Tensor]:
        return partial(kernel.widened, self.numbers, self.scales)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The blocks that a file has, whatever their format: a look-up decodes its own rows."""

    stored: StoredTensor
    widen: Callable[[StoredTensor], Tensor]

    def look_up(self, ids: Tensor) -> Tensor:
        """ids [T] -> the table's rows [T, width] float32, as they would be decoded all at once."""
        blocks = self.stored.blocks[ids.numpy()]
        return self.widen(
            replace(self.stored, shape=(len(ids), self.stored.shape[1]), blocks=blocks)
        )

    def by_kernel(self, kernel: LookUpKernel) -> None:
        """Their formats are many."""


def as_stored(
    table: Tensor | StoredTensor, widen: Callable[[StoredTensor], Tensor]
) -> CompactTable | None:
    """A copy of the table [n, width] as its file has it; None if that is in 32 bits."""
    if isinstance(table, StoredTensor):
        if table.format == "Q8_0":
            return from_q8_0(table)
        return StoredRows(replace(table, blocks=table.blocks.copy()), widen)
    return Halves(table.clone()) if table.dtype.itemsize == 2 else None


def from_q8_0(table: StoredTensor) -> Blocks:
    """The file's blocks, scales and numbers apart: rows of each are looked up by torch at once."""
    rows, width = table.shape
    blocks = table.blocks.reshape(rows, width // GROUP, 2 + GROUP)
    numbers, scales = blocks[..., 2:].copy(), blocks[..., :2].copy()  # a file is read-only
    return Blocks(
        torch.from_numpy(numbers).view(torch.int8).view(rows, width),
        torch.from_numpy(scales).view(torch.float16).squeeze(2),
    )


def compact(table: Tensor) -> Blocks | Halves | None:
    """The smallest form that gives the table [n, width] float32 back, or None."""
    return to_blocks(table) or to_halves(table, torch.float16) or to_halves(table, torch.bfloat16)


def to_blocks(table: Tensor) -> Blocks | None:
    """The table as Q8_0's blocks, if it was made of such: a group's largest number is LARGEST then,
    and tells the scale."""
    rows, width = table.shape
    if width % GROUP:
        return None
    numbers = torch.empty(rows, width, dtype=torch.int8)
    scales = torch.empty(rows, width // GROUP, dtype=torch.float16)
    for start in range(0, rows, CHUNK):
        chunk = table[start : start + CHUNK]
        groups = chunk.reshape(len(chunk), -1, GROUP)
        scale = scales[start : start + CHUNK].copy_(groups.abs().amax(2) / LARGEST)
        wide = scale.float().unsqueeze(2)
        whole = numbers[start : start + CHUNK].view(groups.shape)
        whole.copy_(groups.div(wide.clamp_min(SMALLEST)).round_())
        if not equal_bits(whole * wide, groups):
            return None
    return Blocks(numbers, scales)


def to_halves(table: Tensor, dtype: torch.dtype) -> Halves | None:
    """The table in a type of 16 bits, if that holds each of its numbers."""
    numbers = torch.empty(table.shape, dtype=dtype)
    for start in range(0, len(table), CHUNK):
        rows = table[start : start + CHUNK]
        if not equal_bits(numbers[start : start + CHUNK].copy_(rows).float(), rows):
            return None
    return Halves(numbers)


def equal_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two float32 tensors are the same, the signs of zeros included."""
    return torch.equal(left.view(torch.int32), right.view(torch.int32))
