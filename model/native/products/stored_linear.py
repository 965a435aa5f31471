"""The linear layer that multiplies by a file's own blocks, in C: its panels, arguments, call.

`stored_linear.h` says how the blocks lie in memory and `stored_linear.c` what is computed.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thirdeye.model.declare.stored import MULTIPLIED, StoredTensor
from thirdeye.model.loading import large_pages
from thirdeye.model.native.library import Library, address
from thirdeye.model.native.products.int8_linear import GROUP, PANEL_ROWS, SMALL

FORMATS = MULTIPLIED
BYTES_PER_GROUP = 64  # `struct rounded_group`


class Segment(ctypes.Structure):
    """`struct segment`."""

    _fields_ = (
        ("packed", ctypes.c_void_p),
        ("panel_bytes", ctypes.c_int64),
        ("format", ctypes.c_int),
        ("first_row", ctypes.c_int),
        ("num_rows", ctypes.c_int),
    )


class StoredPackArgs(ctypes.Structure):
    """`struct stored_pack_args`."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("format", ctypes.c_int),
        ("first_row", ctypes.c_int),
        ("num_rows", ctypes.c_int),
        ("in_features", ctypes.c_int),
    )


class StoredLinearArgs(ctypes.Structure):
    """`struct stored_linear_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("segments", ctypes.c_void_p),
        ("rounded", ctypes.c_void_p),
        ("num_segments", ctypes.c_int),
        ("num_tokens", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class PackedBlocks:
    """Rows of one format, in panels."""

    format: str
    num_rows: int
    in_features: int
    panels: Tensor  # [panels, bytes of one] uint8


def pack_blocks(
    library: Library, name: str, pieces: "Sequence[npt.NDArray[np.uint8]]", in_features: int
) -> PackedBlocks:
    """Blocks [n, bytes of a row] of one of FORMATS, top to bottom -> the same bits in the order in
    which they are read."""
    num_rows, kind = sum(map(len, pieces)), FORMATS.index(name)
    panel_bytes = library.function(
        "stored_panel_bytes", ctypes.c_int, ctypes.c_int, result=ctypes.c_long
    )
    panels = large_pages.empty(
        -(-num_rows // PANEL_ROWS), panel_bytes(kind, in_features), dtype=torch.uint8
    )
    panels[-1:].zero_()  # rows behind the last are zeros
    first = 0
    for piece in pieces:
        blocks = np.ascontiguousarray(piece)
        args = StoredPackArgs(
            blocks.ctypes.data, panels.data_ptr(), kind, first, len(blocks), in_features
        )
        library.run(library.operation("stored_pack"), args)
        first += len(blocks)
    return PackedBlocks(name, num_rows, in_features, panels)


def by_format(stored: Sequence[StoredTensor]) -> "Iterator[list[StoredTensor]]":
    """Neighbours of one format together: fewer panels that are not full."""
    for _, neighbours in groupby(stored, lambda tensor: tensor.format):
        yield list(neighbours)


class StoredLinearKernel:
    """y = x W^T + b for one layer, whose rows are `parts`, top to bottom."""

    def __init__(
        self,
        library: Library,
        parts: Sequence[PackedBlocks],
        bias: Tensor | None,
        *,
        is_head: bool = False,
    ) -> None:
        """A head's largest results are computed from 16 bits of `x`."""
        self._run, self._operation = library.run, library.operation("stored_linear")
        self._refine = library.operation("stored_refine") if is_head else None
        self.parts, self.bias = parts, bias  # held here, for C only has their addresses
        self.in_features = parts[0].in_features
        self.out_features = sum(part.num_rows for part in parts)
        self.formats = sorted({part.format for part in parts})
        self._size = self.in_features * self.out_features
        self._groups = self.in_features // GROUP
        self._segments = (Segment * len(parts))(*_segments(parts))
        self._layer = StoredLinearArgs(
            bias=None if bias is None else address(bias, torch.float32, self.out_features),
            segments=ctypes.addressof(self._segments),
            num_segments=len(parts),
            in_features=self.in_features,
            out_features=self.out_features,
        )

    def layer(self) -> StoredLinearArgs:
        """The arguments, less those of a step."""
        return StoredLinearArgs.from_buffer_copy(self._layer)

    def __call__(self, x: Tensor) -> Tensor:
        """x [T, in] float32 -> [T, out] float32."""
        num_tokens = x.shape[0]
        places = num_tokens * self._groups
        y = x.new_empty(num_tokens, self.out_features)
        if not num_tokens:
            return y
        scratch = torch.empty(places * BYTES_PER_GROUP, dtype=torch.uint8)
        args = self.layer()
        args.x, args.y = address(x, torch.float32, -1, self.in_features), y.data_ptr()
        args.rounded, args.num_tokens = scratch.data_ptr(), num_tokens
        self._run(self._operation, args, is_small=num_tokens * self._size < SMALL)
        if self._refine is not None:
            self._run(self._refine, args, is_small=num_tokens == 1)
        return y


def _segments(parts: Sequence[PackedBlocks]) -> Iterator[Segment]:
    first_row = 0
    for part in parts:
        assert part.panels.data_ptr() % 64 == 0  # torch's allocator sees to that
        panel_bytes = part.panels.shape[1]
        kind = FORMATS.index(part.format)
        yield Segment(part.panels.data_ptr(), panel_bytes, kind, first_row, part.num_rows)
        first_row += part.num_rows
