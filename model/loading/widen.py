"""From a file's blocks to numbers: as whoever read the file says, or in C, several times as fast.

The formats that most files are made of have a twin in `model/native/csrc/dequantize.c`, equal bit
for bit, for machines where the kernels could be compiled; the others are decoded in Python there
too.
"""

import ctypes
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.native.library import Library

Widen = Callable[[StoredTensor], Tensor]  # float32, in memory of its own

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


def choose_widen(native: Library | None) -> Widen:
    return decode if native is None else NativeWiden(native)


def decode(tensor: StoredTensor) -> Tensor:
    """As its reader does."""
    return torch.from_numpy(tensor.widen())


class NativeWiden:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._operation = library.operation("dequantize")

    def __call__(self, tensor: StoredTensor) -> Tensor:
        kind = KINDS.get(tensor.format)
        if kind is None:
            return decode(tensor)
        # numpy asks the system for huge pages, which costs a fraction of the page faults.
        weights = torch.from_numpy(np.empty(tensor.shape, np.float32))
        blocks = np.ascontiguousarray(tensor.blocks)
        args = DequantizeArgs(
            blocks.ctypes.data,
            weights.data_ptr(),
            weights.numel() // tensor.block_size,
            kind,
        )
        self._library.run(self._operation, args)
        return weights
