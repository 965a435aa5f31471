"""Lists of modules in a quantization's settings: plain names, wildcards, `re:` expressions.

A checkpoint's expression is held to a form that ends in time (`strangers_pattern.py`).
"""

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.strangers_pattern import (
    MAX_PATTERNS,
    matches,
    too_much_of,
    too_much_of_all,
)


@dataclass(frozen=True, slots=True)
class ModulePatterns:
    """`names` match a module, all that is in it, and it in whatever it is in: "lm_head",
    "mlp.gate", "model.layers.0"."""

    names: frozenset[str] = frozenset()
    wildcards: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()

    def match(self, module: str) -> bool:
        pieces = module.split(".")
        ranges = ((i, j) for i in range(len(pieces)) for j in range(i + 1, len(pieces) + 1))
        borders = (pair for pair in ranges if pair[0] == 0 or pair[1] == len(pieces))
        return (
            any(".".join(pieces[i:j]) in self.names for i, j in borders)
            or any(fnmatch.fnmatchcase(module, wildcard) for wildcard in self.wildcards)
            or any(matches(expression, module) for expression in self.expressions)
        )


def read_patterns(fields: Fields, *keys: str) -> ModulePatterns:
    """Of all these keys together. Raises `ModelFormatError`."""
    names, wildcards, expressions = set(), [], []
    for key in keys:
        for pattern in strings(fields, key):
            if pattern.startswith("re:"):
                expressions.append(expression(fields, key, pattern[3:]))
            elif "*" in pattern:
                wildcards.append(pattern)
            else:
                names.add(pattern)
    check_together(fields, keys[0], expressions)
    if len(wildcards) > MAX_PATTERNS:
        rule = f"has {len(wildcards):,} wildcards, the limit is {MAX_PATTERNS:,}."
        raise fields.error(keys[0], rule)
    return ModulePatterns(frozenset(names), tuple(wildcards), tuple(expressions))


def strings(fields: Fields, key: str) -> Sequence[str]:
    """A list of them, or none."""
    value = fields.raw(key, [])
    if not (isinstance(value, list) and all(type(item) is str for item in value)):
        raise fields.error(key, f"must be a list of strings, got {shown(value)}.")
    return value


def expression(fields: Fields, key: str, pattern: str) -> str:
    """Raises `ModelFormatError` for one that is wrong, or could take for ever."""
    if problem := too_much_of(pattern):
        raise fields.error(key, f"{problem}.")
    return pattern


def check_together(fields: Fields, key: str, patterns: Collection[str]) -> None:
    """Raises `ModelFormatError` for expressions that take long because they are many."""
    if problem := too_much_of_all(patterns):
        raise fields.error(key, f"{problem}.")
