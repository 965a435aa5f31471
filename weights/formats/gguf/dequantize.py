"""From ggml's blocks to float32, vectorized.

A quantized row is a chain of blocks of 32 weights: a scale `d` (float16), for Q4_1 also a minimum
`m`, then the integers `q`. Nibbles are split in halves: byte j holds weight j in its low and weight
j + 16 in its high four bits.

    Q4_0  d, 16 bytes of q     weight = (q - 8) * d
    Q4_1  d, m, 16 bytes of q  weight = q * d + m
    Q8_0  d, 32 signed bytes   weight = q * d

Source: the block structures in ggml's `ggml-common.h`.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.formats.gguf.format import TensorType

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CHUNK = 2048  # blocks at a time: 256 KiB of output, so that the passes over it stay in the cache


def stored_tensor(
    stored: memoryview, tensor_type: TensorType, shape: tuple[int, ...]
) -> StoredTensor:
    """A tensor of some quantized type as it lies in the file, not copied."""
    raw = np.frombuffer(stored, np.uint8)
    rows = raw.reshape(-1, shape[-1] // tensor_type.block_size * tensor_type.block_bytes)
    return StoredTensor(
        tensor_type.name, tensor_type.block_size, shape, rows, partial(_decode, tensor_type)
    )


def _decode(tensor_type: TensorType, rows: Bytes) -> Floats:
    """[n, bytes of a row] -> [n, weights of a row]"""
    width = rows.shape[1] // tensor_type.block_bytes * tensor_type.block_size
    return dequantize(np.ascontiguousarray(rows).data, tensor_type, (len(rows), width))


def dequantize(stored: memoryview, tensor_type: TensorType, shape: tuple[int, ...]) -> Floats:
    """The stored bytes of a tensor as a fresh float32 array of `shape`."""
    raw = np.frombuffer(stored, np.uint8)
    if tensor_type.name == "F32":
        return raw.view("<f4").astype(np.float32).reshape(shape)
    if tensor_type.name == "F16":
        return raw.view("<f2").astype(np.float32).reshape(shape)
    unpack = UNPACK[tensor_type.name]
    blocks = raw.reshape(-1, tensor_type.block_bytes)  # [num_blocks, block_bytes]
    weights = np.empty((len(blocks), 32), np.float32)  # [num_blocks, 32]
    with np.errstate(all="ignore"):  # a file may hold infinities; that is the model's business
        for start in range(0, len(blocks), CHUNK):
            unpack(blocks[start : start + CHUNK], weights[start : start + CHUNK])
    assert weights.size == math.prod(shape)
    return weights.reshape(shape)


def _unpack_q4_0(blocks: Bytes, out: Floats) -> None:
    _split_nibbles(blocks[:, 2:], out)
    out -= 8
    out *= _half(blocks, 0)


def _unpack_q4_1(blocks: Bytes, out: Floats) -> None:
    _split_nibbles(blocks[:, 4:], out)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _unpack_q8_0(blocks: Bytes, out: Floats) -> None:
    np.multiply(blocks[:, 2:].view(np.int8), _half(blocks, 0), out=out)


def _split_nibbles(packed: Bytes, out: Floats) -> None:
    """[num_blocks, 16] bytes -> [num_blocks, 32] values 0..15."""
    out[:, :16] = packed & 15
    out[:, 16:] = packed >> 4


def _half(blocks: Bytes, offset: int) -> Floats:
    """The float16 at this byte of each block, as a column: [num_blocks, 1] float32."""
    column: Floats = (
        np.ascontiguousarray(blocks[:, offset : offset + 2]).view("<f2").astype(np.float32)
    )
    return column


UNPACK: dict[str, Callable[[Bytes, Floats], None]] = {
    "Q4_0": _unpack_q4_0,
    "Q4_1": _unpack_q4_1,
    "Q8_0": _unpack_q8_0,
}
