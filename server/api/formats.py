"""`response_format` and `structured_outputs`: what an answer has to look like, as it was asked for.

Both fields become a `Constraint`, or None where they ask for nothing. Only their shape is checked
here; whether a schema or an expression can be followed shows when it is compiled
(`server/api/grammars.py`), which takes too long for a parser.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn

from pydantic import PlainValidator, WithJsonSchema

from server.api.body import decode_object
from server.api.fields import fail, json_type
from server.errors import BadRequest
from server.text.grammar import MAX_GRAMMAR_BYTES, MAX_REGEX_BYTES

MAX_DESCRIPTION = 4096
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Kind(StrEnum):
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    LARK = "lark"
    SERIALIZED = "serialized"  # llguidance's own form: comes back in receipts


@dataclass(frozen=True, slots=True)
class Constraint:
    """`source` is a regular expression or a grammar, or the JSON text of a schema or of a list of
    strings. `path` leads from the field of the request to what is to blame if it does not compile.
    """

    kind: Kind
    source: str = ""
    path: str = ""


def parse_response_format(value: object) -> Constraint | None:
    """OpenAI's field; `text` asks for nothing. `strict` changes nothing: it is always enforced."""
    fields = _object(value, "")
    kind = _required(fields, "type", "")
    if kind in ("text", "json_object"):
        _only(fields, ("type",), "")
        return Constraint(Kind.JSON_OBJECT) if kind == "json_object" else None
    if kind != "json_schema":
        fail("invalid_value", "must be 'text', 'json_object' or 'json_schema'.", ".type")
    _only(fields, ("type", "json_schema"), "")
    path = ".json_schema"
    return parse_named_schema(_object(_required(fields, "json_schema", ""), path), path)


def parse_named_schema(fields: dict[str, object], path: str) -> Constraint:
    """`{"name", "schema", "strict", "description"}`; without a schema, any object will do."""
    name = _string(_required(fields, "name", path), f"{path}.name")
    if not NAME.fullmatch(name):
        fail("invalid_value", "must be 1 to 64 letters, digits, '_' or '-'.", f"{path}.name")
    description = fields.get("description")
    if (
        description is not None
        and len(_string(description, f"{path}.description")) > MAX_DESCRIPTION
    ):
        rule = f"must be at most {MAX_DESCRIPTION} characters long."
        fail("string_above_max_length", rule, f"{path}.description")
    strict = fields.get("strict")
    if strict is not None and not isinstance(strict, bool):
        _wrong_type("a boolean", strict, f"{path}.strict")
    _only(fields, ("name", "schema", "strict", "description"), path)
    schema = fields.get("schema")
    if schema is None:
        return Constraint(Kind.JSON_OBJECT)
    return Constraint(
        Kind.JSON_SCHEMA, _text_of(_object(schema, f"{path}.schema")), f"{path}.schema"
    )


def parse_structured_outputs(value: object) -> Constraint:
    """vLLM's field: exactly one of json, json_object, regex, choice and grammar."""
    fields = {name: item for name, item in _object(value, "").items() if item is not None}
    _only(fields, tuple(_OUTPUTS), "")
    if len(fields) != 1:
        fail("invalid_value", f"must hold exactly one of {', '.join(_OUTPUTS)}.")
    ((name, item),) = fields.items()
    return _OUTPUTS[name](item, f".{name}")


def _json(value: object, path: str) -> Constraint:
    """A schema, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = decode_object(value.encode())
        except BadRequest:
            fail("invalid_schema", "is a string, but not the JSON text of a schema.", path)
    return Constraint(Kind.JSON_SCHEMA, _text_of(_object(value, path)), path)


def _json_object(value: object, path: str) -> Constraint:
    if value is not True:
        fail("invalid_value", "must be true, or left out.", path)
    return Constraint(Kind.JSON_OBJECT)


def _regex(value: object, path: str) -> Constraint:
    return Constraint(Kind.REGEX, _string(value, path), path)


def _grammar(value: object, path: str) -> Constraint:
    return Constraint(Kind.LARK, _string(value, path), path)


def _choice(value: object, path: str) -> Constraint:
    if not isinstance(value, list):
        _wrong_type("an array of strings", value, path)
    options = [_string(option, f"{path}[{i}]") for i, option in enumerate(value)]
    return Constraint(Kind.CHOICE, _text_of(options), path)


_OUTPUTS: dict[str, Callable[[object, str], Constraint]] = {
    "json": _json,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}


def _text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _required(fields: dict[str, object], name: str, path: str) -> object:
    if fields.get(name) is None:
        fail("missing_required_parameter", "is required.", f"{path}.{name}")
    return fields[name]


def _only(fields: dict[str, object], names: Collection[str], path: str) -> None:
    for name in fields.keys() - set(names):
        fail("unknown_parameter", "is not a known field.", f"{path}.{name[:40]}")


def _object(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        _wrong_type("an object", value, path)
    return value


def _string(value: object, path: str) -> str:
    if not isinstance(value, str):
        _wrong_type("a string", value, path)
    return value


def _wrong_type(wanted: str, value: object, path: str) -> NoReturn:
    fail("invalid_type", f"must be {wanted}, got {json_type(value)}.", path)


_NAMED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": {"type": ["string", "null"], "maxLength": MAX_DESCRIPTION},
        "schema": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


ResponseFormat = Annotated[
    Constraint | None,
    PlainValidator(parse_response_format),
    WithJsonSchema(
        {
            "anyOf": [
                _closed({"type": {"enum": ["text", "json_object"]}}, "type"),
                _closed(
                    {"type": {"const": "json_schema"}, "json_schema": _NAMED},
                    "type",
                    "json_schema",
                ),
            ]
        }
    ),
]
StructuredOutputs = Annotated[
    Constraint,
    PlainValidator(parse_structured_outputs),
    WithJsonSchema(
        {
            "anyOf": [
                _closed({"json": {"type": ["object", "string"]}}, "json"),
                _closed({"json_object": {"const": True}}, "json_object"),
                _closed({"regex": {"type": "string", "maxLength": MAX_REGEX_BYTES}}, "regex"),
                _closed(
                    {
                        "choice": {
                            "type": "array",
                            "items": {"type": "string", "minLength": 1},
                            "minItems": 1,
                        }
                    },
                    "choice",
                ),
                _closed({"grammar": {"type": "string", "maxLength": MAX_GRAMMAR_BYTES}}, "grammar"),
            ]
        }
    ),
]
