"""Checked reads from a checkpoint's own description: a JSON object or GGUF metadata.

A description is written by strangers. Every read names its type and its range here, so that a
reader of an architecture is a list of fields, and a bad one becomes a `ModelFormatError` with the
field's name. Knows nothing about which fields exist.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thirdeye.weights.errors import ModelFormatError

MISSING: Any = object()  # a default that no checkpoint can contain


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping with its file's name; `prefix` is put before each key (GGUF: "llama.")."""

    path: Path
    values: Mapping[str, Any]
    prefix: str = ""

    def __contains__(self, key: str) -> bool:
        return self.values.get(self.prefix + key) is not None

    def error(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(self.path, problem, field=self.prefix + key)

    def is_null(self, key: str) -> bool:
        """Whether it is there and says null: no value, where a missing key means a default."""
        name = self.prefix + key
        return name in self.values and self.values[name] is None

    def raw(self, key: str, default: Any = MISSING) -> Any:
        """The value as it stands; JSON's null counts as missing."""
        value = self.values.get(self.prefix + key)
        if value is not None:
            return value
        if default is MISSING:
            raise self.error(key, f"is required and missing; {self._instead('it')}.")
        return default

    def integer(self, key: str, default: int = MISSING, *, low: int = 1, high: int) -> int:
        value = self.raw(key, default)
        if type(value) is not int:
            limits = f"an integer between {low} and {high}"
            raise self._other_type(key, limits, value, _meant_integer(value, low, high))
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}, got {shown(value)}.")
        return value

    def optional_integer(self, key: str, *, high: int) -> int | None:
        return self.integer(key, low=0, high=high) if key in self else None

    def positive(self, key: str, default: float = MISSING) -> float:
        """A finite number above zero."""
        value = self.raw(key, default)
        if type(value) not in (int, float):
            raise self._other_type(key, "a number above 0", value, _meant_number(value))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and number > 0):
            raise self.error(key, f"must be a finite number above 0, got {shown(value)}.")
        return number

    def boolean(self, key: str, default: bool = MISSING) -> bool:
        value = self.raw(key, default)
        if type(value) is not bool:
            raise self._other_type(key, "true or false", value, _meant_boolean(value))
        return value

    def text(self, key: str, default: str = MISSING) -> str:
        value = self.raw(key, default)
        if type(value) is not str:
            meant = f'"{value}"' if type(value) in (int, float) and self._is_json else None
            raise self._other_type(key, "a string", value, meant)
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self else None

    def nested(self, key: str) -> "Fields | None":
        """The object under `key`, whose own fields are then named `key.field`."""
        value = self.raw(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._other_type(key, "an object", value, None)
        name = f"{self.prefix}{key}."
        return Fields(self.path, {name + str(k): v for k, v in value.items()}, name)

    def refuse(self, key: str, *harmless: object) -> None:
        """A feature we do not have may be present only with a value that switches it off."""
        value = self.raw(key, None)
        if value is not None and not _is_one_of(value, harmless):
            only = "; what works is a model "
            only += f"where it is {_listed(harmless)}" if harmless else "without it"
            raise self.error(key, f"is not supported (value {shown(value)}){only}.")

    @property
    def _is_json(self) -> bool:
        return self.path.suffix == ".json"

    def _instead(self, right: str) -> str:
        """The way out: JSON is for people to write, a binary file is its converter's."""
        return f"write {right}" if self._is_json else f"convert the model again, with {right}"

    def _other_type(
        self, key: str, wanted: str, value: object, meant: str | None
    ) -> ModelFormatError:
        """`meant`: what stands there, as it should have been written, if that can be told."""
        way_out = self._instead("one" if meant is None else meant)
        return self.error(key, f"must be {wanted}, got {shown(value)}: {way_out}.")


def _is_one_of(value: object, harmless: Sequence[object]) -> bool:
    """Python's True equals 1, and is no number."""
    if _is_array(value):
        return False
    return any(value == one and (value is not True or one is True) for one in harmless)


def _is_array(value: object) -> bool:
    """Of a GGUF file: numpy's, which compare item by item."""
    return hasattr(value, "tolist")


def _meant_number(value: object) -> str | None:
    """Of a string, the number that it spells."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return f"{number:.12g}" if 0 < number < math.inf else None


def _meant_integer(value: object, low: int, high: int) -> str | None:
    """Of a whole number with a point, or in quotes, the integer."""
    text = repr(value) if type(value) is float else value
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    return f"{number:.0f}" if number.is_integer() and low <= number <= high else None


def _meant_boolean(value: object) -> str | None:
    if _is_array(value):
        return None
    said = value.strip().lower() if isinstance(value, str) else value
    for right, spellings in (("true", ("true", "yes", "1", 1)), ("false", ("false", "no", "0", 0))):
        if said in spellings:
            return right
    return None


def _listed(values: tuple[object, ...]) -> str:
    """As JSON spells them."""
    return " or ".join(
        shown(value).lower() if type(value) is bool else shown(value) for value in values
    )


def shown(value: object) -> str:
    """A value for an error message, cut to one short line."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "an integer of more than 64 bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
