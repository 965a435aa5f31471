"""Reading the fields of blocks: numbers that lie at the same byte of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[Any]  # of whatever number type a field has
Unpack = Callable[[Bytes, Floats], None]  # blocks [n, block_bytes], out [n, block_size]


def half(blocks: Bytes, offset: int) -> Floats:
    """The float16 at this byte of each block, as a column: [n, 1] float32."""
    column: Floats = words(blocks, offset, 1, "<f2").astype(np.float32)
    return column


def words(blocks: Bytes, offset: int, count: int, dtype: str) -> Words:
    """`count` numbers of a `dtype` from this byte of each block on: [n, count]."""
    size = count * np.dtype(dtype).itemsize
    return np.ascontiguousarray(blocks[:, offset : offset + size]).view(dtype)


def bit_planes(packed: Bytes, bits: int) -> Bytes:
    """[..., k] bytes -> [..., 8 / bits, k] numbers: the lowest `bits` of all bytes first."""
    planes = np.empty((*packed.shape[:-1], 8 // bits, packed.shape[-1]), np.uint8)
    for i in range(8 // bits):
        np.right_shift(packed, bits * i, out=planes[..., i, :])
    planes &= np.uint8((1 << bits) - 1)
    return planes
