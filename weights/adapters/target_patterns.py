"""Which modules a name in adapter_config.json means: peft's rules.

A list of names means modules that are called so, or end in `.` and the name; one string is a
regular expression of whole names. Patterns of ranks and alphas are regular expressions of endings.
They are written by strangers, and some take for ever to match: those are not taken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from thirdeye.weights.formats.fields import Fields, shown

T = TypeVar("T")
MAX_LENGTH = 1000
MAX_REPEATS = 3  # of "any number of" in one expression: each makes a match as much longer
REPEATS = re.compile(r"[*+{]")
REPEATED_GROUP = re.compile(r"\)[*+{]")


@dataclass(frozen=True, slots=True)
class ModulePattern:
    """A regular expression that can be matched in time."""

    text: str

    @classmethod
    def of(cls, fields: Fields, key: str, text: str) -> Self:
        """Raises `ModelFormatError`."""
        problem = ""
        if len(text) > MAX_LENGTH:
            problem = f"has {len(text):,} characters, the limit is {MAX_LENGTH:,}"
        elif len(REPEATS.findall(text)) > MAX_REPEATS or REPEATED_GROUP.search(text):
            problem = f"repeats too much in {shown(text)}: name the modules in a list"
        else:
            try:
                re.compile(text)
            except (re.error, RecursionError, OverflowError):
                problem = f"{shown(text)} is no regular expression"
        if problem:
            raise fields.error(key, f"{problem}.")
        return cls(text)

    def ends(self, module: str) -> bool:
        """Whether the module's name is it, or ends in a dot and it."""
        return re.match(rf"(.*\.)?({self.text})$", module) is not None

    def is_all_of(self, module: str) -> bool:
        return re.fullmatch(self.text, module) is not None


def find_pattern(values: Mapping[ModulePattern, T], module: str, default: T) -> T:
    """The value of the first pattern that fits."""
    return next((value for pattern, value in values.items() if pattern.ends(module)), default)


def is_named(fields: Fields, key: str, module: str) -> bool:
    """Raises `ModelFormatError` for what is neither a list of names nor an expression."""
    said = fields.raw(key, [])
    if isinstance(said, str):
        return ModulePattern.of(fields, key, said).is_all_of(module)
    if not (isinstance(said, list) and all(isinstance(name, str) for name in said)):
        raise fields.error(key, f"must be a list of module names, got {shown(said)}.")
    return any(module == name or module.endswith(f".{name}") for name in said)
