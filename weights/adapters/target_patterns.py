"""Which modules a name in adapter_config.json means: peft's rules.

A list of names means modules that are called so, or end in `.` and the name; one string is a
regular expression of whole names. Patterns of ranks and alphas are regular expressions of endings.
They are written by strangers, and some take for ever to match: those are not taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.strangers_pattern import matches, too_much_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModulePattern:
    """A regular expression that can be matched in time."""

    text: str

    @classmethod
    def of(cls, fields: Fields, key: str, text: str) -> Self:
        """Raises `ModelFormatError`."""
        if problem := too_much_of(text):
            raise fields.error(key, f"{problem}.")
        return cls(text)

    def ends(self, module: str) -> bool:
        """Whether the module's name is it, or ends in a dot and it."""
        return any(
            matches(rf"({self.text})$", module[begin:])
            for begin in (0, *(i + 1 for i, c in enumerate(module) if c == "."))
        )

    def is_all_of(self, module: str) -> bool:
        return matches(rf"({self.text})\Z", module) is not None


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
