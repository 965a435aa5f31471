"""From a file's blocks to numbers: as whoever read the file says, or in C, several times as fast.

The formats that most files are made of have a twin in `model/native/csrc/dequantize.c`, equal bit
for bit, for machines where the kernels could be compiled; the others are decoded in Python there
too.

A model's weights are filled `into` place. Writing is what costs: numbers that lie beside first, in
memory that the system has to give, are written twice and read once more. So C writes float32 where
it stays, and whatever is rounded or moved on comes by a tile that stays in the processor's caches.
"""

import ctypes

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.declare.parameter import Share
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.loading import large_pages
from thirdeye.model.native.library import Library

TILE = 1 << 18  # numbers: 1 MiB

KINDS = {  # `enum kind`
    name: kind
    for kind, name in enumerate(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"))
}


class DequantizeArgs(ctypes.Structure):
    """`struct dequantize_args`."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("num_blocks", ctypes.c_int64),
        ("kind", ctypes.c_int),
    )


class Widen:
    """As the file's reader does."""

    def __call__(self, tensor: StoredTensor) -> Tensor:
        """float32, in memory of its own."""
        return torch.from_numpy(tensor.widen())

    def into(self, tensor: StoredTensor, out: Tensor) -> None:
        """A matrix [n, in], to `out` of its shape, rounded to what that holds."""
        num_rows, width = tensor.shape
        step = max(TILE // width, 1)
        for start in range(0, num_rows, step):
            rows = slice(start, min(start + step, num_rows))
            tile = tensor.cut(Share((rows,)))
            assert tile is not None, "rows are never cut"
            out[rows].copy_(self(tile))


decode = Widen()


def choose_widen(native: Library | None) -> Widen:
    return decode if native is None else NativeWiden(native)


class NativeWiden(Widen):
    def __init__(self, library: Library) -> None:
        self._library = library
        self._operation = library.operation("dequantize")

    def __call__(self, tensor: StoredTensor) -> Tensor:
        if tensor.format not in KINDS:
            return super().__call__(tensor)
        weights = large_pages.empty(*tensor.shape)
        self._write(tensor, weights)
        return weights

    def into(self, tensor: StoredTensor, out: Tensor) -> None:
        is_plain = out.dtype == torch.float32 and out.is_contiguous() and out.device.type == "cpu"
        if is_plain and tensor.format in KINDS:
            self._write(tensor, out)
        else:
            super().into(tensor, out)

    def _write(self, tensor: StoredTensor, weights: Tensor) -> None:
        """To dense float32 of this machine."""
        blocks = np.ascontiguousarray(tensor.blocks)
        num_blocks = weights.numel() // tensor.block_size
        args = DequantizeArgs(
            blocks.ctypes.data, weights.data_ptr(), num_blocks, KINDS[tensor.format]
        )
        self._library.run(self._operation, args)
