"""AWQ in its GEMM layout: four bits, eight numbers to a word, packed along the outputs.

    qweight  int32 [in, out / 8]      numbers q
    qzeros   int32 [groups, out / 8]  zero points z
    scales   float [groups, out]

    weight = scale * (q - z)

The eight numbers of a word are not in order: from the lowest bits on they are the word's numbers
0, 2, 4, 6, 1, 3, 5, 7.

Source: `AWQ_ORDER` and the GEMM layer of AutoAWQ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.quantized.decode.packed_integers import scale_groups, unpack
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns, read_patterns
from thirdeye.weights.formats.quantized.packed.gptq import MAX_GROUP, Packing
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight

if TYPE_CHECKING:
    from torch import Tensor

PACKED_AT = [0, 4, 1, 5, 2, 6, 3, 7]  # where in a word number 0, 1, ... is
NUMBERS = len(PACKED_AT)  # in a word


@dataclass(frozen=True, slots=True)
class AWQ:
    packing: Packing
    skipped: ModulePatterns
    title: str = "AWQ"

    suffixes: ClassVar[tuple[str, ...]] = (".qweight", ".qzeros", ".scales")
    unused: ClassVar[tuple[str, ...]] = ()

    def weight(self, parts: Parts) -> QuantizedWeight:
        qweight = parts.get("qweight", ("I32",), None, None)
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        width, height = qweight.shape[0], qweight.shape[1] * NUMBERS
        group_size = width if self.packing.group_size == -1 else self.packing.group_size
        groups = -(-width // max(group_size, 1))
        parts.get("qzeros", ("I32",), groups, height // NUMBERS)
        parts.get("scales", ("F16", "BF16", "F32"), groups, height)
        return QuantizedWeight(
            f"{parts.module}.weight",
            f"{self.title} {self.packing.title}",
            (height, width),
            parts.entries,
            partial(decode_awq, group_size),
        )


def decode_awq(group_size: int, parts: "Mapping[str, Tensor]", rows: slice) -> "Tensor":
    """Rows [n, in] of the matrix; they start where a word does."""
    words = slice(rows.start // NUMBERS, rows.stop // NUMBERS)
    numbers = _in_order(parts["qweight"][:, words])  # [n, in]
    zeros = _in_order(parts["qzeros"][:, words])  # [n, groups]
    return scale_groups(numbers, parts["scales"][:, rows].t(), zeros, group_size)


def _in_order(words: "Tensor") -> "Tensor":
    """[k, n / 8] words -> [n, k] numbers."""
    height, width = words.shape
    packed = unpack(words, 4).reshape(height, width, NUMBERS)
    return packed[..., PACKED_AT].reshape(height, width * NUMBERS).t()


def read_awq(fields: Fields) -> AWQ:
    """Raises `ModelFormatError` for what would be read wrongly."""
    key = next((key for key in ("version", "format", "checkpoint_format") if key in fields), "")
    layout = fields.text(key).lower() if key else "gemm"
    if layout != "gemm":
        raise fields.error(key, f"'{layout:.60}' is not supported; supported is gemm.")
    name = "bits" if "bits" in fields else "w_bit"
    if (bits := fields.integer(name, high=8)) != 4:
        raise fields.error(name, f"{bits} is not supported; supported is 4.")
    fields.refuse("zero_point", True)
    name = "group_size" if "group_size" in fields else "q_group_size"
    group_size = fields.integer(name, low=-1, high=MAX_GROUP)
    if group_size == 0:
        raise fields.error(name, "must be above 0, or -1 for one group.")
    return AWQ(Packing(bits, group_size), read_patterns(fields, "modules_to_not_convert"))
