"""compressed-tensors, by llm-compressor: groups of modules, each with a scheme of its own.

What a scheme keeps of a weight is in `compressed_weight.py`; here is which scheme a module has. A
target is a class of modules ("Linear"), which then is all that is quantized, or the name of one, or
an expression; names come before classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.quantized.compressed_weight import FORMATS, Scheme, read_weight
from thirdeye.weights.formats.quantized.decode.scaled_blocks import (
    BY_ROW,
    WHOLE,
    ScaleBlocks,
    read_blocks,
)
from thirdeye.weights.formats.quantized.fp8 import ROUNDINGS
from thirdeye.weights.formats.quantized.module_patterns import (
    ModulePatterns,
    read_patterns,
    strings,
)
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight

MAX_GROUP = 1 << 20
GROUPED = ("group", "tensor_group")
STRATEGIES = ("tensor", "channel", *GROUPED, "block")


@dataclass(frozen=True, slots=True)
class ModuleGroup:
    patterns: ModulePatterns
    is_of_classes: bool  # it has targets that are classes
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    groups: tuple[ModuleGroup, ...]
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = (
        *(".weight", ".weight_packed", ".weight_scale", ".weight_global_scale"),
        *(".weight_zero_point", ".weight_shape", ".weight_g_idx"),
    )
    unused: ClassVar[tuple[str, ...]] = (*ROUNDINGS, ".k_zero_point", ".v_zero_point")

    def weight(self, parts: Parts) -> QuantizedWeight | None:
        if parts.is_plain:
            return None
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        scheme = self._scheme(parts.module)
        if scheme is None:
            raise parts.error("is quantized, and no group of the settings has its module.")
        return read_weight(scheme, parts)

    def _scheme(self, module: str) -> Scheme | None:
        by_name = (group for group in self.groups if group.patterns.match(module))
        by_class = (group for group in self.groups if group.is_of_classes)
        found = next(by_name, None) or next(by_class, None)
        return None if found is None else found.scheme


def read_compressed_tensors(fields: Fields) -> CompressedTensors:
    """Raises `ModelFormatError` for what would be read wrongly."""
    for key in ("sparsity_config", "transform_config"):
        other = fields.nested(key)
        if other is not None and other.values and other.raw("format", "") != "dense":
            raise fields.error(key, "is not supported: use a checkpoint without it.")
    return CompressedTensors(tuple(_groups(fields)), read_patterns(fields, "ignore"))


def _groups(fields: Fields) -> Iterator[ModuleGroup]:
    groups = fields.nested("config_groups")
    for name in groups.values if groups else ():
        assert groups is not None
        key = name.removeprefix(groups.prefix)
        group = groups.nested(key)
        if group is None:
            raise groups.error(key, "must be an object.")
        targets = strings(group, "targets")
        is_of_classes = any(target[:1].isupper() and "." not in target for target in targets)
        yield ModuleGroup(read_patterns(group, "targets"), is_of_classes, _scheme(fields, group))


def _scheme(fields: Fields, group: Fields) -> Scheme:
    source = group if "format" in group else fields
    kind = source.text("format")
    if kind not in FORMATS:
        supported = ", ".join(FORMATS)
        raise source.error("format", f"'{kind:.60}' is not supported; supported are {supported}.")
    weights = group.nested("weights")
    if weights is None:
        raise group.error("weights", "is required and missing: only weights can be quantized.")
    number = weights.text("type", "int")
    if number not in ("int", "float"):
        raise weights.error("type", f"'{number:.60}' is not supported; supported: int, float.")
    return Scheme(
        kind,
        weights.integer("num_bits", high=8),
        number == "float",
        weights.boolean("symmetric", True),
        _blocks(weights),
        weights.raw("actorder", None) in ("group", True),
    )


def _blocks(weights: Fields) -> ScaleBlocks:
    size = weights.integer("group_size", -1, low=-1, high=MAX_GROUP)
    strategy = weights.text("strategy", "channel" if size == -1 else "group" if size else "tensor")
    if strategy not in STRATEGIES:
        supported = ", ".join(STRATEGIES)
        raise weights.error("strategy", f"{shown(strategy)} is not supported: {supported}.")
    if strategy in GROUPED:
        if size < 1:
            raise weights.error("group_size", "must be above 0.")
        return ScaleBlocks(1, size)
    if strategy == "block":
        if (blocks := read_blocks(weights, "block_structure")) is None:
            raise weights.error("block_structure", "is required and missing.")
        return blocks
    return BY_ROW if strategy == "channel" else WHOLE
