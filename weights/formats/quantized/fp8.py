"""Eight-bit floats under a scale: in blocks as DeepSeek and Qwen publish them, by row, or one.

weight            F8_E4M3 [out, in]       numbers
weight_scale_inv  float [blocks, blocks]  scales (the name's "inv" is historical)
weight_scale      float                   the same: one scale, or one a row

weight = number * scale
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.quantized.decode.scaled_blocks import (
    BY_ROW,
    SCALES,
    WHOLE,
    ScaleBlocks,
    check_scales,
    read_blocks,
)
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns, read_patterns
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight

if TYPE_CHECKING:
    from torch import Tensor

SCALE_KEYS = ("weight_scale_inv", "weight_scale")
# What says how activations and cached keys were rounded: we keep both as they are.
ROUNDINGS = (
    *(".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale"),
    *(".input_scale_ub", ".activation_scale", ".k_scale", ".v_scale", ".q_scale", ".prob_scale"),
)


@dataclass(frozen=True, slots=True)
class FP8:
    """`blocks` is None where each weight says by the shape of its scales: one, or one a row."""

    title: str
    blocks: ScaleBlocks | None
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = (".weight", ".weight_scale_inv", ".weight_scale")
    unused: ClassVar[tuple[str, ...]] = ROUNDINGS

    def weight(self, parts: Parts) -> QuantizedWeight | None:
        scales = [key for key in SCALE_KEYS if key in parts]
        if parts.is_plain:
            return None
        weight = parts.get("weight", ("F8_E4M3",), None, None)
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        if len(scales) != 1:
            raise weight.error(f"must have one of {', '.join(SCALE_KEYS)}, got {len(scales)}.")
        height, width = weight.shape
        blocks = self.blocks
        if blocks is None:
            blocks = WHOLE if parts[scales[0]].num_numbers == 1 else BY_ROW
        check_scales(parts, scales[0], blocks, height, width, SCALES)
        return QuantizedWeight(
            f"{parts.module}.weight",
            f"{self.title} ({blocks.title})",
            (height, width),
            parts.entries,
            partial(decode_scaled, blocks, scales[0], ""),
        )


def decode_scaled(
    blocks: ScaleBlocks, scale_key: str, zero_key: str, parts: "Mapping[str, Tensor]", rows: slice
) -> "Tensor":
    """Rows [n, in] of the matrix; the zero points, where there are any, lie as the scales do."""
    numbers = parts["weight"][rows].float()
    width = numbers.shape[1]
    if zero_key:
        numbers -= blocks.spread(parts[zero_key], rows, width)
    numbers *= blocks.spread(parts[scale_key], rows, width)
    return numbers


def read_fp8(fields: Fields) -> FP8:
    """Raises `ModelFormatError` for what would be read wrongly."""
    if (kind := fields.text("fmt", "e4m3")) not in ("e4m3", "float8_e4m3fn"):
        raise fields.error("fmt", f"'{kind:.60}' is not supported; supported is e4m3.")
    keys = ("modules_to_not_convert", "ignored_layers")
    return FP8("FP8", read_blocks(fields, "weight_block_size"), read_patterns(fields, *keys))
