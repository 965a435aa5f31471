"""Reading a JSON value by hand: what pydantic's unions cannot say in one sentence.

Each function gives the value as the type it has to be, or refuses it with what is wrong and where:
`path` leads inward from the field (`.json_schema.name`, `[2]`). `ignored` takes the names of hints,
and on a lenient server those of unknown keys.
"""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.field_rules.suggestions import suggestion


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
    return None if is_empty(value) else string(value, f"{path}.{name}")


def optional_boolean(fields: Mapping[str, object], name: str, path: str) -> bool | None:
    value = fields.get(name)
    if is_empty(value):
        return None
    if not isinstance(value, bool):
        wrong_type("a boolean", value, f"{path}.{name}")
    return value


def required(fields: Mapping[str, object], name: str, path: str) -> object:
    if fields.get(name) is None:
        fail("missing_required_parameter", "is required.", f"{path}.{name}")
    return fields[name]


def only(
    known: Collection[str],
    fields: Mapping[str, object],
    path: str,
    ignored: Ignored | None,
    hints: Collection[str] = (),
) -> None:
    """Every key is a known one or a hint, which is named in `ignored`. Others are refused, or named
    there if it is lenient."""
    ignored = ignored or Ignored()
    for name, value in fields.items():
        if name in known:
            continue
        if name not in hints and not ignored.is_lenient:
            hint = suggestion(name, known)
            fail(
                "unknown_parameter", f"is not a known field{hint}", f"{path}.{printable(name[:40])}"
            )
        if name not in hints or not is_empty(value):
            ignored.names.add(name)


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
