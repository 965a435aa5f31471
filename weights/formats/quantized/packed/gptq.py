"""GPTQ, by AutoGPTQ, GPTQModel and auto-round: integers packed along the inputs.

    qweight  int32 [in * bits / 32, out]      numbers q
    qzeros   int32 [groups, out * bits / 32]  zero points z, along the outputs; less 1 in version 1
    scales   float [groups, out]
    g_idx    int32 [in]                       the group of each input, where activations order them

    weight = scale * (q - z)

Numbers are streams of bits, lowest first; those of 3 bits cross from word to word. How a module is
packed may differ from the rest by a rule of `dynamic`: an expression behind "+:", or behind "-:"
for modules that are not packed. The first that matches holds.

Source: the quantized linear layers of AutoGPTQ and GPTQModel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from thirdeye.weights.formats.fields import MISSING, Fields
from thirdeye.weights.formats.quantized.decode.packed_integers import scale_groups, unpack
from thirdeye.weights.formats.quantized.module_patterns import (
    ModulePatterns,
    check_together,
    expression,
    read_patterns,
)
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight
from thirdeye.weights.formats.strangers_pattern import matches

if TYPE_CHECKING:
    from torch import Tensor

BITS = (2, 3, 4, 8)
MAX_GROUP = 1 << 20
MISSING_IN_ZEROS = {"gptq": 1, "gptq_v2": 0}  # by format
UNROLLED = 32  # numbers that fill whole words, whatever their bits


@dataclass(frozen=True, slots=True)
class Packing:
    """How one module is packed; a `group_size` of -1 makes all inputs one group."""

    bits: int
    group_size: int

    @property
    def title(self) -> str:
        groups = "one group" if self.group_size == -1 else f"groups of {self.group_size}"
        return f"{self.bits} bit ({groups})"


@dataclass(frozen=True, slots=True)
class PackingRule:
    """`packing` is None for modules that are not packed."""

    pattern: str
    packing: Packing | None


@dataclass(frozen=True, slots=True)
class GPTQ:
    title: str
    packing: Packing
    rules: tuple[PackingRule, ...]
    missing_in_zeros: int
    needs_order: bool  # g_idx must be there
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = (".qweight", ".qzeros", ".scales", ".g_idx")
    unused: ClassVar[tuple[str, ...]] = ()

    def weight(self, parts: Parts) -> QuantizedWeight:
        packing = self._packing(parts.module)
        if packing is None or self.skipped.match(parts.module):
            raise parts.skipped_error()
        qweight = parts.get("qweight", ("I32",), None, None)
        height, width = qweight.shape[1], qweight.shape[0] * 32 // packing.bits
        if height % UNROLLED or width % UNROLLED:
            raise qweight.error(f"sizes must be multiples of {UNROLLED}, got {height} x {width}.")
        group_size = width if packing.group_size == -1 else packing.group_size
        groups = -(-width // group_size)
        parts.get("qzeros", ("I32",), groups, height * packing.bits // 32)
        parts.get("scales", ("F16", "BF16", "F32"), groups, height)
        if "g_idx" in parts or self.needs_order:
            parts.get("g_idx", ("I32",), width)
        return QuantizedWeight(
            f"{parts.module}.weight",
            f"{self.title} {packing.title}",
            (height, width),
            parts.entries,
            partial(decode_gptq, packing.bits, group_size, self.missing_in_zeros),
        )

    def _packing(self, module: str) -> Packing | None:
        for rule in self.rules:
            if matches(rule.pattern, module):
                return rule.packing
        return self.packing


def decode_gptq(
    bits: int, group_size: int, missing: int, parts: "Mapping[str, Tensor]", rows: slice
) -> "Tensor":
    """Rows [n, in] of the matrix; they start where a word does."""
    words = slice(rows.start * bits // 32, rows.stop * bits // 32)
    numbers = unpack(parts["qweight"][:, rows].t(), bits)  # [n, in]
    zeros = unpack(parts["qzeros"][:, words], bits).t()  # [n, groups]
    scales = parts["scales"][:, rows].t()
    group_of = parts.get("g_idx")
    if group_of is not None:
        group_of = checked_groups(group_of, group_size, scales.shape[1])
    return scale_groups(numbers, scales, zeros.float() + missing, group_size, group_of)


def checked_groups(group_of: "Tensor", group_size: int, groups: int) -> "Tensor | None":
    """None where the groups follow each other. Raises ValueError for one that is not there."""
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    if group_of.min() < 0 or group_of.max() >= groups:
        raise ValueError(f"'g_idx' must be between 0 and {groups - 1}.")
    in_order = torch.arange(len(group_of), dtype=group_of.dtype) // group_size
    return None if torch.equal(group_of, in_order) else group_of


def read_gptq(fields: Fields, title: str) -> GPTQ:
    """Raises `ModelFormatError` for what would be read wrongly."""
    kind = fields.text("checkpoint_format", fields.text("format", "gptq"))
    if kind not in MISSING_IN_ZEROS:
        raise fields.error(
            "checkpoint_format",
            f"'{kind:.60}' is not supported; supported are {', '.join(MISSING_IN_ZEROS)}.",
        )
    for key in ("is_marlin_format", "use_marlin"):
        fields.refuse(key, False)
    fields.refuse("pack_dtype", "int32")
    fields.refuse("rotation")
    packing = read_packing(fields)
    return GPTQ(
        title,
        packing,
        tuple(_rules(fields, packing)),
        MISSING_IN_ZEROS[kind],
        fields.boolean("desc_act", False),
        read_patterns(fields, "modules_to_not_convert"),
    )


def read_packing(fields: Fields, default: Packing | None = None) -> Packing:
    """`bits` and `group_size` of an object. Raises `ModelFormatError`."""
    bits = fields.integer("bits", default.bits if default else MISSING, high=8)
    group_size = fields.integer(
        "group_size", default.group_size if default else MISSING, low=-1, high=MAX_GROUP
    )
    return checked_packing(fields, bits, group_size)


def checked_packing(fields: Fields, bits: int, group_size: int) -> Packing:
    """Of an object's `bits` and `group_size`. Raises `ModelFormatError`."""
    if bits not in BITS:
        raise fields.error("bits", f"{bits} is not supported; supported are 2, 3, 4 and 8.")
    if group_size == 0:
        raise fields.error("group_size", "must be above 0, or -1 for one group.")
    return Packing(bits, group_size)


def _rules(fields: Fields, default: Packing) -> "list[PackingRule]":
    dynamic = fields.nested("dynamic")
    rules = []
    for key in dynamic.values if dynamic else ():
        assert dynamic is not None
        pattern = key.removeprefix(dynamic.prefix)
        changes = dynamic.nested(pattern)
        kind, text = pattern[:2], pattern.removeprefix("+:").removeprefix("-:")
        packing = None if kind == "-:" else read_packing(changes or dynamic, default)
        rules.append(PackingRule(expression(dynamic, pattern, text), packing))
    check_together(fields, "dynamic", [rule.pattern for rule in rules])
    return rules
