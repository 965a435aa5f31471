"""Reading a JSON value by hand: what pydantic's unions cannot say in one sentence.

Each function gives the value as the type it has to be, or refuses it with what is wrong and where:
`path` leads inward from the field (`.json_schema.name`, `[2]`). `ignored` is the set that takes the
names of unknown keys on a lenient server; None refuses them.
"""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

Ignored = set[str] | None


def fail(code: str, rule: str, path: str = "") -> NoReturn:
    """Refuse a field: `rule` completes the sentence `'field' …`, `path` leads inward from it."""
    raise PydanticCustomError("refused", "{rule}", {"code": code, "rule": rule, "path": path})


def json_type(value: object) -> str:
    """The name JSON has for a value's type, for messages."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def wrong_type(wanted: str, value: object, path: str = "") -> NoReturn:
    fail("invalid_type", f"must be {wanted}, got {json_type(value)}.", path)


def string(value: object, path: str = "", wanted: str = "a string") -> str:
    if not isinstance(value, str):
        wrong_type(wanted, value, path)
    return value


def array(value: object, path: str = "", wanted: str = "an array") -> list[Any]:
    if not isinstance(value, list):
        wrong_type(wanted, value, path)
    return value


def mapping(value: object, path: str = "", wanted: str = "an object") -> dict[str, Any]:
    if not isinstance(value, dict):
        wrong_type(wanted, value, path)
    return value


def optional_string(fields: Mapping[str, object], name: str, path: str) -> str | None:
    value = fields.get(name)
    return None if value is None else string(value, f"{path}.{name}")


def optional_boolean(fields: Mapping[str, object], name: str, path: str) -> bool | None:
    value = fields.get(name)
    if not isinstance(value, bool | None):
        wrong_type("a boolean", value, f"{path}.{name}")
    return value


def required(fields: Mapping[str, object], name: str, path: str) -> object:
    if fields.get(name) is None:
        fail("missing_required_parameter", "is required.", f"{path}.{name}")
    return fields[name]


def only(known: Collection[str], fields: Mapping[str, object], path: str, ignored: Ignored) -> None:
    """Every key is a known one; others are refused, or named in `ignored`."""
    for name in fields:
        if name in known:
            continue
        if ignored is None:
            fail("unknown_parameter", "is not a known field.", f"{path}.{printable(name[:40])}")
        ignored.add(name)


def closed_schema(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    """The JSON schema of an object that has no other keys."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
