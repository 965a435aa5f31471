"""NVIDIA's modelopt: FP8 with one scale a weight, and NVFP4.

weight          U8 [out, in / 2]      two four-bit floats a byte, the lower half first
weight_scale    F8_E4M3 [out, in/16]  a scale a group
weight_scale_2  F32                   and one for all

weight = number * (weight_scale * weight_scale_2)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.quantized.decode.four_bit_floats import scale_pairs
from thirdeye.weights.formats.quantized.fp8 import FP8, ROUNDINGS
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns, read_patterns
from thirdeye.weights.formats.quantized.quantized_weight import Method, Parts, QuantizedWeight

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 16
ALGORITHMS = ("FP8", "NVFP4")


@dataclass(frozen=True, slots=True)
class NVFP4:
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = (".weight", ".weight_scale", ".weight_scale_2")
    unused: ClassVar[tuple[str, ...]] = ROUNDINGS

    def weight(self, parts: Parts) -> QuantizedWeight | None:
        if parts.is_plain:
            return None
        weight = parts.get("weight", ("U8",), None, None)
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        height, width = weight.shape[0], weight.shape[1] * 2
        if width % GROUP:
            raise weight.error(f"must have a multiple of {GROUP} inputs, got {width}.")
        parts.get("weight_scale", ("F8_E4M3",), height, width // GROUP)
        if parts.get("weight_scale_2", ("F32",)).num_numbers != 1:
            raise parts["weight_scale_2"].error("must be one number.")
        return QuantizedWeight(
            f"{parts.module}.weight", "modelopt NVFP4", (height, width), parts.entries, decode_nvfp4
        )


def decode_nvfp4(parts: "Mapping[str, Tensor]", rows: slice) -> "Tensor":
    scales = parts["weight_scale"][rows].float() * parts["weight_scale_2"].reshape(1, 1)
    return scale_pairs(parts["weight"][rows], scales)


def read_modelopt(fields: Fields) -> Method:
    """Raises `ModelFormatError` for what would be read wrongly."""
    fields = fields.nested("quantization") or fields
    name = fields.text("quant_algo")
    if name not in ALGORITHMS:
        supported = ", ".join(ALGORITHMS)
        raise fields.error("quant_algo", f"'{name:.60}' is not supported; supported: {supported}.")
    if fields.integer("group_size", GROUP, high=1 << 20) != GROUP and name == "NVFP4":
        raise fields.error("group_size", f"must be {GROUP}.")
    skipped = read_patterns(fields, "exclude_modules", "ignore")
    return NVFP4(skipped) if name == "NVFP4" else FP8("modelopt FP8", None, skipped)
