"""`response_format` and `structured_outputs`: what an answer has to look like, as it was asked for.

Both fields become a `Constraint`, or None where they ask for nothing. Only their shape is checked
here; whether a schema or an expression can be followed shows when it is compiled
(`server/api/state/grammar_cache.py`), which takes too long for a parser.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.http.json_body import decode_object
from thirdeye.server.api.requests.value_readers import (
    Ignored,
    array,
    closed_schema,
    fail,
    mapping,
    only,
    optional_boolean,
    optional_string,
    required,
    string,
)
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.constraints.constraint import MAX_GRAMMAR_BYTES, MAX_REGEX_BYTES

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


def parse_response_format(value: object, ignored: Ignored = None) -> Constraint | None:
    """OpenAI's field; `text` asks for nothing. `strict` changes nothing: it is always enforced."""
    fields = mapping(value)
    kind = required(fields, "type", "")
    if kind in ("text", "json_object"):
        only(("type",), fields, "", ignored)
        return Constraint(Kind.JSON_OBJECT) if kind == "json_object" else None
    if kind != "json_schema":
        fail("invalid_value", "must be 'text', 'json_object' or 'json_schema'.", ".type")
    only(("type", "json_schema"), fields, "", ignored)
    path = ".json_schema"
    return _named_schema(mapping(required(fields, "json_schema", ""), path), path, ignored)


def _named_schema(fields: dict[str, Any], path: str, ignored: Ignored) -> Constraint:
    """`{"name", "schema", "strict", "description"}`; without a schema, any object will do."""
    name = string(required(fields, "name", path), f"{path}.name")
    if not NAME.fullmatch(name):
        fail("invalid_value", "must be 1 to 64 letters, digits, '_' or '-'.", f"{path}.name")
    if len(optional_string(fields, "description", path) or "") > MAX_DESCRIPTION:
        rule = f"must be at most {MAX_DESCRIPTION} characters long."
        fail("string_above_max_length", rule, f"{path}.description")
    optional_boolean(fields, "strict", path)
    only(("name", "schema", "strict", "description"), fields, path, ignored)
    schema = fields.get("schema")
    if schema is None:
        return Constraint(Kind.JSON_OBJECT)
    path = f"{path}.schema"
    return Constraint(Kind.JSON_SCHEMA, _text_of(mapping(schema, path)), path)


def parse_structured_outputs(value: object, ignored: Ignored = None) -> Constraint:
    """vLLM's field: exactly one of json, json_object, regex, choice and grammar."""
    given = {name: item for name, item in mapping(value).items() if item is not None}
    only(_OUTPUTS, given, "", ignored)
    fields = {name: item for name, item in given.items() if name in _OUTPUTS}
    if len(fields) != 1:
        fail("invalid_value", f"must hold exactly one of {', '.join(_OUTPUTS)}.")
    ((name, item),) = fields.items()
    return _OUTPUTS[name](item, f".{name}")


def _json(value: object, path: str) -> Constraint:
    """A schema, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = decode_object(value.encode())
        except InvalidRequest:
            fail("invalid_schema", "is a string, but not the JSON text of a schema.", path)
    return Constraint(Kind.JSON_SCHEMA, _text_of(mapping(value, path)), path)


def _json_object(value: object, path: str) -> Constraint:
    if value is not True:
        fail("invalid_value", "must be true, or left out.", path)
    return Constraint(Kind.JSON_OBJECT)


def _regex(value: object, path: str) -> Constraint:
    return Constraint(Kind.REGEX, string(value, path), path)


def _grammar(value: object, path: str) -> Constraint:
    return Constraint(Kind.LARK, string(value, path), path)


def _choice(value: object, path: str) -> Constraint:
    items = array(value, path, "an array of strings")
    options = [string(option, f"{path}[{i}]") for i, option in enumerate(items)]
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


_NAMED = closed_schema(
    {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": {"type": ["string", "null"], "maxLength": MAX_DESCRIPTION},
        "schema": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
    "name",
)
ResponseFormat = Annotated[
    Constraint | None,
    PlainValidator(lambda value, info: parse_response_format(value, info.context)),
    WithJsonSchema(
        {
            "anyOf": [
                closed_schema({"type": {"enum": ["text", "json_object"]}}, "type"),
                closed_schema(
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
    PlainValidator(lambda value, info: parse_structured_outputs(value, info.context)),
    WithJsonSchema(
        {
            "anyOf": [
                closed_schema({"json": {"type": ["object", "string"]}}, "json"),
                closed_schema({"json_object": {"const": True}}, "json_object"),
                closed_schema({"regex": {"type": "string", "maxLength": MAX_REGEX_BYTES}}, "regex"),
                closed_schema(
                    {
                        "choice": {
                            "type": "array",
                            "items": {"type": "string", "minLength": 1},
                            "minItems": 1,
                        }
                    },
                    "choice",
                ),
                closed_schema(
                    {"grammar": {"type": "string", "maxLength": MAX_GRAMMAR_BYTES}}, "grammar"
                ),
            ]
        }
    ),
]
