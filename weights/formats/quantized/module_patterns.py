"""Lists of modules in a quantization's settings: plain names, wildcards, `re:` expressions.

A checkpoint's expression runs on our processor, so that it is held to a form that cannot take for
ever: no repeated groups, few repetitions.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from thirdeye.weights.formats.fields import Fields, shown

MAX_LENGTH = 256
MAX_REPETITIONS = 4
REPETITION = re.compile(r"(?<!\\)[*+{]")
REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+{]")


@dataclass(frozen=True, slots=True)
class ModulePatterns:
    """`names` match a module, all that is in it, and it in whatever it is in: "lm_head",
    "mlp.gate", "model.layers.0"."""

    names: frozenset[str] = frozenset()
    wildcards: tuple[str, ...] = ()
    expressions: tuple[re.Pattern[str], ...] = ()

    def match(self, module: str) -> bool:
        pieces = module.split(".")
        ranges = ((i, j) for i in range(len(pieces)) for j in range(i + 1, len(pieces) + 1))
        borders = (pair for pair in ranges if pair[0] == 0 or pair[1] == len(pieces))
        return (
            any(".".join(pieces[i:j]) in self.names for i, j in borders)
            or any(fnmatch.fnmatchcase(module, wildcard) for wildcard in self.wildcards)
            or any(expression.match(module) for expression in self.expressions)
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
    return ModulePatterns(frozenset(names), tuple(wildcards), tuple(expressions))


def strings(fields: Fields, key: str) -> Sequence[str]:
    """A list of them, or none."""
    value = fields.raw(key, [])
    if not (isinstance(value, list) and all(type(item) is str for item in value)):
        raise fields.error(key, f"must be a list of strings, got {shown(value)}.")
    return value


def expression(fields: Fields, key: str, pattern: str) -> re.Pattern[str]:
    """Raises `ModelFormatError` for one that is wrong, or could take for ever."""
    is_slow = (
        len(pattern) > MAX_LENGTH
        or len(REPETITION.findall(pattern)) > MAX_REPETITIONS
        or REPEATED_GROUP.search(pattern)
    )
    if is_slow:
        raise fields.error(
            key,
            f"the expression {pattern!r:.60} is not supported: at most {MAX_LENGTH} characters, "
            f"{MAX_REPETITIONS} repetitions and no repeated group.",
        )
    try:
        return re.compile(pattern)
    except re.error as error:
        raise fields.error(key, f"{pattern!r:.60} is no expression: {error}.") from error
