"""auto-round: GPTQ's or AWQ's tensors, by settings of its own.

`packing_format` says whose layout it is, and whether zero points are stored less 1.
`block_name_to_quantize` begins the names of the modules that are packed, `extra_config` has those
that are packed otherwise or not at all (16 bits): by name, else by an expression that is found
anywhere in the name.

Source: `inference/backend.py` and `inference/convert_model.py` of auto-round 0.9; vLLM's reader of
the same settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thirdeye.weights.formats.fields import MISSING, Fields
from thirdeye.weights.formats.quantized.module_patterns import (
    ModulePatterns,
    check_together,
    expression,
    strings,
)
from thirdeye.weights.formats.quantized.packed.awq import AWQ
from thirdeye.weights.formats.quantized.packed.gptq import GPTQ, MAX_GROUP, Packing, checked_packing
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight
from thirdeye.weights.formats.strangers_pattern import LONGEST_NAME

KEY = "packing_format"
TITLE = "auto-round"
USUAL = "auto_round:auto_gptq"  # where the settings do not say
MISSING_IN_ZEROS = {
    USUAL: 1, "auto_round:gptq": 1, "auto_gptq": 1,
    "auto_round": 0, "auto_round:gptqmodel": 0,
}  # fmt: skip
AWQ_LAYOUTS = ("auto_round:auto_awq", "auto_round:awq", "auto_awq")
FULL_BITS = 16  # from so many on a module is not packed
IS_EXPRESSION = re.compile(r"[*+?^$()\[\]{}|\\]")


@dataclass(frozen=True, slots=True)
class AutoRound:
    """A packing of None: not packed. `layout` is one of `MISSING_IN_ZEROS`; None: AWQ's."""

    layout: str | None
    packing: Packing
    blocks: tuple[str, ...]  # none: all modules but the head
    by_name: Mapping[str, Packing | None]
    by_expression: Mapping[str, Packing | None]

    suffixes: ClassVar[tuple[str, ...]] = GPTQ.suffixes
    unused: ClassVar[tuple[str, ...]] = ()

    def weight(self, parts: Parts) -> QuantizedWeight:
        packing = self._packing(parts.module)
        if packing is None:
            raise parts.skipped_error()
        nothing = ModulePatterns()
        if self.layout is None:
            if packing.bits != 4:
                raise parts.error(f"{packing.bits} bits in AWQ's layout are not supported: 4 are.")
            return AWQ(packing, nothing, TITLE).weight(parts)
        missing = MISSING_IN_ZEROS[self.layout]
        return GPTQ(TITLE, packing, (), missing, False, nothing).weight(parts)

    def _packing(self, module: str) -> Packing | None:
        if module in self.by_name:
            return self.by_name[module]
        for pattern, packing in self.by_expression.items():
            if len(module) <= LONGEST_NAME and re.search(pattern, module):
                return packing
        is_packed = module.startswith(self.blocks) if self.blocks else module != "lm_head"
        return self.packing if is_packed else None


def read_auto_round(fields: Fields) -> AutoRound:
    """Raises `ModelFormatError` for what would be read wrongly."""
    layout = fields.text(KEY, fields.text("backend", USUAL))
    layout = USUAL if layout == "auto" else layout
    if layout not in MISSING_IN_ZEROS and layout not in AWQ_LAYOUTS:
        supported = ", ".join((*MISSING_IN_ZEROS, *AWQ_LAYOUTS))
        raise fields.error(KEY, f"'{layout:.60}' is not supported; supported are {supported}.")
    fields.refuse("rotation_config", {})
    packing = _packing(fields, None)
    if packing is None:
        raise fields.error("bits", "must be 2, 3, 4 or 8: nothing would be packed.")
    by_name, by_expression = {}, {}
    extra = fields.nested("extra_config")
    for name in extra.values if extra else ():
        assert extra is not None
        module = name.removeprefix(extra.prefix)
        own = extra.nested(module)
        if own is None:
            continue
        if IS_EXPRESSION.search(module):
            by_expression[expression(extra, module, module)] = _packing(own, packing)
        else:
            by_name[module] = _packing(own, packing)
    check_together(fields, "extra_config", by_expression)
    is_awq = layout in AWQ_LAYOUTS
    blocks = _blocks(fields)
    return AutoRound(None if is_awq else layout, packing, blocks, by_name, by_expression)


def _packing(fields: Fields, default: Packing | None) -> Packing | None:
    """Of all modules, or of one that has its own."""
    bits = fields.integer("bits", default.bits if default else MISSING, high=32)
    if bits >= FULL_BITS:
        return None
    fields.refuse("data_type", "int")
    fields.refuse("act_bits", 16, 32)
    group_size = fields.integer(
        "group_size", default.group_size if default else MISSING, low=-1, high=MAX_GROUP
    )
    return checked_packing(fields, bits, group_size)


def _blocks(fields: Fields) -> tuple[str, ...]:
    """A list, or names with commas between them."""
    for key in ("block_name_to_quantize", "to_quant_block_names"):
        if isinstance(fields.raw(key, None), str):
            return tuple(name.strip() for name in fields.text(key).split(",") if name.strip())
        if key in fields:
            return tuple(strings(fields, key))
    return ()
