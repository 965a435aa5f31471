"""Values that ask for nothing: null, and a text, a list or an object with nothing in it."""

from typing import Any

EMPTY: tuple[object, ...] = (None, "", [], {})
NOTHING: dict[str, Any] = {"enum": list(EMPTY)}  # as a JSON schema


def is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a field that may be left out. A default of nothing is no value of what
    the field is otherwise, so it stands beside both."""
    own = {key: value for key, value in schema.items() if key != "default"}
    default = {"default": schema["default"]} if "default" in schema else {}
    return {"anyOf": [own, NOTHING]} | default
