"""What the schemes of compressed-tensors keep of a weight.

    pack-quantized    weight_packed I32 [out, in * bits / 32], weight_scale, weight_shape I64 [2],
                      weight_zero_point I32 [out * bits / 32, groups] if not symmetric,
                      weight_g_idx [in] where activations order the groups
    int-quantized     weight I8 [out, in], weight_scale, weight_zero_point if not symmetric
    float-quantized   weight F8_E4M3 [out, in], weight_scale
    naive-quantized   one of these two
    nvfp4-pack-quantized    weight_packed U8 [out, in / 2], weight_scale F8_E4M3 [out, in / 16],
                            weight_global_scale F32 [1], by which scales are divided
    mxfp4-pack-quantized    weight_packed U8, weight_scale U8 [out, in / 32]: exponents, less 127

Packed integers are a stream of bits along a row, the lowest first, and are stored with 2^(bits - 1)
added; so are their zero points, which are packed along the outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from thirdeye.weights.formats.quantized.decode.four_bit_floats import powers_of_two, scale_pairs
from thirdeye.weights.formats.quantized.decode.packed_integers import scale_groups, unpack
from thirdeye.weights.formats.quantized.decode.scaled_blocks import (
    SCALES,
    ScaleBlocks,
    check_scales,
)
from thirdeye.weights.formats.quantized.fp8 import decode_scaled
from thirdeye.weights.formats.quantized.packed.gptq import checked_groups
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight
from thirdeye.weights.formats.safetensors import FLOATS

if TYPE_CHECKING:
    from torch import Tensor

FOUR_BIT_GROUPS = {"nvfp4-pack-quantized": 16, "mxfp4-pack-quantized": 32}
FORMATS = (
    *("dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized"),
    *FOUR_BIT_GROUPS,
)


@dataclass(frozen=True, slots=True)
class Scheme:
    format: str
    bits: int
    is_float: bool
    is_symmetric: bool
    blocks: ScaleBlocks
    is_ordered: bool  # by activations: an input says which group it is of

    @property
    def title(self) -> str:
        kind = f"fp{self.bits}" if self.is_float else f"int{self.bits}"
        return f"compressed-tensors {kind} ({self.blocks.title})"


def read_weight(scheme: Scheme, parts: Parts) -> QuantizedWeight:
    """Raises `ModelFormatError`."""
    if scheme.format in FOUR_BIT_GROUPS:
        shape, decode = _four_bit_floats(scheme, parts)
    elif scheme.format == "pack-quantized":
        shape, decode = _packed(scheme, parts)
    else:
        shape, decode = _eight_bits(scheme, parts)
    return QuantizedWeight(f"{parts.module}.weight", scheme.title, shape, parts.entries, decode)


Decode = Callable[[Mapping[str, "Tensor"], slice], "Tensor"]
Found = tuple[tuple[int, int], Decode]


def _eight_bits(scheme: Scheme, parts: Parts) -> Found:
    weight = parts.get("weight", ("F8_E4M3" if scheme.is_float else "I8",), None, None)
    height, width = weight.shape
    check_scales(parts, "weight_scale", scheme.blocks, height, width, SCALES)
    zero = "" if scheme.is_symmetric else "weight_zero_point"
    if zero:
        check_scales(parts, zero, scheme.blocks, height, width, ("I8", *FLOATS))
    return (height, width), partial(decode_scaled, scheme.blocks, "weight_scale", zero)


def _packed(scheme: Scheme, parts: Parts) -> Found:
    packed = parts.get("weight_packed", ("I32",), None, None)
    told = parts.get("weight_shape", ("I64", "I32"), 2)
    kind = "<i8" if told.dtype == "I64" else "<i4"
    height, width = map(int, np.frombuffer(told.read_bytes(0, 16), kind))
    if width < 1 or packed.shape != (height, -(-width * scheme.bits // 32)):
        raise packed.error(
            f"holds no {height} x {width} numbers of {scheme.bits} bits without gaps, got "
            f"{list(packed.shape)}."
        )
    blocks = scheme.blocks
    if blocks.rows not in (None, 1):
        raise packed.error(f"{blocks.title} are not supported for packed integers.")
    groups = blocks.counts(height, width)[1]
    check_scales(parts, "weight_scale", blocks, height, width, FLOATS)
    if not scheme.is_symmetric:
        if blocks.rows is None:
            raise packed.error("a zero point of the whole matrix is not supported.")
        parts.get("weight_zero_point", ("I32",), -(-height * scheme.bits // 32), groups)
    if scheme.is_ordered or "weight_g_idx" in parts:
        parts.get("weight_g_idx", ("I32", "I64"), width)
    return (height, width), partial(decode_packed, scheme, (height, width))


def _four_bit_floats(scheme: Scheme, parts: Parts) -> Found:
    group = FOUR_BIT_GROUPS[scheme.format]
    packed = parts.get("weight_packed", ("U8",), None, None)
    height, width = packed.shape[0], packed.shape[1] * 2
    is_nvidia = scheme.format.startswith("nvfp4")
    if width % group or scheme.blocks != ScaleBlocks(1, group) or not scheme.is_symmetric:
        raise packed.error(f"must be symmetric in groups of {group}, which divide {width} inputs.")
    check_scales(
        parts,
        *("weight_scale", scheme.blocks, height, width),
        ("F8_E4M3",) if is_nvidia else ("U8", "F8_E8M0"),
    )
    if is_nvidia and parts.get("weight_global_scale", ("F32",)).num_numbers != 1:
        raise parts["weight_global_scale"].error("must be one number.")
    return (height, width), _decode_nvfp4 if is_nvidia else _decode_mxfp4


def decode_packed(
    scheme: Scheme, shape: tuple[int, int], parts: "Mapping[str, Tensor]", rows: slice
) -> "Tensor":
    """Rows [n, in] of the matrix; they start where a word of zero points does."""
    bits, (height, width) = scheme.bits, shape
    numbers = unpack(parts["weight_packed"][rows], bits)[:, :width]
    columns = scheme.blocks.columns
    groups = scheme.blocks.counts(height, width)[1]
    scales = parts["weight_scale"].float().reshape(-1, groups)
    scales = scales[rows] if scheme.blocks.rows else scales.expand(len(numbers), 1)
    zeros: Tensor | float = 1 << bits - 1
    if "weight_zero_point" in parts and not scheme.is_symmetric:
        words = slice(rows.start * bits // 32, -(-rows.stop * bits // 32))
        zeros = unpack(parts["weight_zero_point"][words].t(), bits).t()[: len(numbers)]
    group_of = parts.get("weight_g_idx")
    if group_of is not None:
        group_of = checked_groups(group_of, columns or width, groups)
    return scale_groups(numbers, scales, zeros, columns or width, group_of)


def _decode_nvfp4(parts: "Mapping[str, Tensor]", rows: slice) -> "Tensor":
    scales = parts["weight_scale"][rows].float() / parts["weight_global_scale"].reshape(1, 1)
    return scale_pairs(parts["weight_packed"][rows], scales)


def _decode_mxfp4(parts: "Mapping[str, Tensor]", rows: slice) -> "Tensor":
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    scales = powers_of_two(parts["weight_scale"][rows].view(torch.uint8))
    return scale_pairs(parts["weight_packed"][rows], scales)
