"""MXFP4 as gpt-oss has it: four-bit floats in groups of 32, whose scale is a power of two.

    NAME_blocks  U8 [experts, out, in / 32, 16]  two numbers a byte, the lower half first
    NAME_scales  U8 [experts, out, in / 32]      exponents, less 127

The parameter NAME is their product with its last two sizes exchanged: [experts, in, out].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES
from thirdeye.weights.formats.quantized.decode.four_bit_floats import powers_of_two, scale_pairs
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns, read_patterns
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 32
NO_NUMBER = 255  # of an exponent
BLOCKS = next(kind for kind in TENSOR_TYPES.values() if kind.name == "MXFP4")


@dataclass(frozen=True, slots=True)
class MXFP4:
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = ("_blocks", "_scales")
    unused: ClassVar[tuple[str, ...]] = ()

    def weight(self, parts: Parts) -> QuantizedWeight:
        blocks = parts.get("blocks", ("U8",), None, None, None, GROUP // 2)
        parts.get("scales", ("U8",), *blocks.shape[:3])
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        experts, height, groups, _ = blocks.shape
        shape = (experts, groups * GROUP, height)
        return QuantizedWeight(
            parts.module,
            "MXFP4",
            shape,
            parts.entries,
            decode_mxfp4,
            rows_at_once=1,
            keep=ggml_blocks,
        )


def decode_mxfp4(parts: "Mapping[str, Tensor]", experts: slice) -> "Tensor":
    """[n, in, out] of these experts."""
    blocks, scales = parts["blocks"][experts], powers_of_two(parts["scales"][experts])
    count, height, groups, _ = blocks.shape
    rows = scale_pairs(blocks.reshape(count * height, -1), scales.reshape(count * height, groups))
    return rows.reshape(count, height, -1).transpose(1, 2)


def ggml_blocks(parts: "Mapping[str, Tensor]") -> StoredTensor | None:
    """[experts, out, in], bit for bit: a scale before its numbers, of which the first 16 are the
    lower halves of bytes. None if a scale is no number, which ggml's form cannot say."""
    blocks, scales = parts["blocks"].numpy(), parts["scales"].numpy()
    if (scales == NO_NUMBER).any():
        return None
    experts, height, groups, _ = blocks.shape
    numbers = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*scales.shape, GROUP)
    halves = numbers[..., : GROUP // 2] | numbers[..., GROUP // 2 :] << 4
    rows = np.concatenate((scales[..., None], halves), axis=-1)
    return stored_tensor(rows.data, BLOCKS, (experts, height, groups * GROUP))


def read_mxfp4(fields: Fields) -> MXFP4:
    return MXFP4(read_patterns(fields, "modules_to_not_convert"))
