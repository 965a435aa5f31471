"""Checked reads from a checkpoint's own description: a JSON object or GGUF metadata.

A description is written by strangers. Every read names its type and its range here, so that a
reader of an architecture is a list of fields, and a bad one becomes a `ModelFormatError` with the
field's name. Knows nothing about which fields exist.
"""

import math
from collections.abc import Mapping
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
            raise self.error(key, "is required and missing.")
        return default

    def integer(self, key: str, default: int = MISSING, *, low: int = 1, high: int) -> int:
        value = self.raw(key, default)
        if type(value) is not int:
            raise self.error(key, f"must be an integer, got {shown(value)}.")
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}, got {shown(value)}.")
        return value

    def optional_integer(self, key: str, *, high: int) -> int | None:
        return self.integer(key, low=0, high=high) if key in self else None

    def positive(self, key: str, default: float = MISSING) -> float:
        """A finite number above zero."""
        value = self.raw(key, default)
        if type(value) not in (int, float):
            raise self.error(key, f"must be a number, got {shown(value)}.")
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
            raise self.error(key, f"must be true or false, got {shown(value)}.")
        return value

    def text(self, key: str, default: str = MISSING) -> str:
        value = self.raw(key, default)
        if type(value) is not str:
            raise self.error(key, f"must be a string, got {shown(value)}.")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self else None

    def nested(self, key: str) -> "Fields | None":
        """The object under `key`, whose own fields are then named `key.field`."""
        value = self.raw(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, f"must be an object, got {shown(value)}.")
        name = f"{self.prefix}{key}."
        return Fields(self.path, {name + str(k): v for k, v in value.items()}, name)

    def refuse(self, key: str, *harmless: object) -> None:
        """A feature we do not have may be present only with a value that switches it off."""
        value = self.raw(key, None)
        if value is not None and value not in harmless:
            raise self.error(key, f"is not supported (value {shown(value)}).")


def shown(value: object) -> str:
    """A value for an error message, cut to one short line."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "an integer of more than 64 bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
