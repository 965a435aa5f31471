"""From ggml's blocks to float32, vectorized; `blocks/` says what a block holds."""

import math
from functools import partial

import numpy as np

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.formats.gguf.blocks import (
    codebooks,
    floats,
    k_quants,
    nonlinear,
    simple,
    ternary,
)
from thirdeye.weights.formats.gguf.blocks.block_fields import Bytes, Floats, Unpack
from thirdeye.weights.formats.gguf.format import TensorType

CHUNK = 1 << 20  # weights at a time: 4 MiB of output, whose blocks' fields are taken at once


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
    blocks = np.frombuffer(stored, np.uint8).reshape(-1, tensor_type.block_bytes)
    weights = np.empty((len(blocks), tensor_type.block_size), np.float32)
    unpack, step = UNPACK[tensor_type.name], CHUNK // tensor_type.block_size
    with np.errstate(all="ignore"):  # a file may hold infinities; that is the model's business
        for start in range(0, len(blocks), step):
            unpack(blocks[start : start + step], weights[start : start + step])
    assert weights.size == math.prod(shape)
    return weights.reshape(shape)


UNPACK: dict[str, Unpack] = {
    "F32": simple.f32,
    "F16": simple.f16,
    "BF16": simple.bf16,
    "Q4_0": simple.q4_0,
    "Q4_1": simple.q4_1,
    "Q5_0": simple.q5_0,
    "Q5_1": simple.q5_1,
    "Q8_0": simple.q8_0,
    "Q2_K": k_quants.q2_k,
    "Q3_K": k_quants.q3_k,
    "Q4_K": k_quants.q4_k,
    "Q5_K": k_quants.q5_k,
    "Q6_K": k_quants.q6_k,
    "IQ4_NL": nonlinear.iq4_nl,
    "IQ4_XS": nonlinear.iq4_xs,
    "IQ1_S": codebooks.iq1_s,
    "IQ1_M": codebooks.iq1_m,
    "IQ2_XXS": codebooks.iq2_xxs,
    "IQ2_XS": codebooks.iq2_xs,
    "IQ2_S": codebooks.iq2_s,
    "IQ3_XXS": codebooks.iq3_xxs,
    "IQ3_S": codebooks.iq3_s,
    "TQ1_0": ternary.tq1_0,
    "TQ2_0": ternary.tq2_0,
    "MXFP4": floats.mxfp4,
    "NVFP4": floats.nvfp4,
    "Q1_0": simple.q1_0,
    "Q2_0": simple.q2_0,
}
