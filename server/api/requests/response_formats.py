"""`response_format`: what an answer has to look like, as it was asked for.

It becomes a `Constraint`, or None where it asks for nothing. Only its shape is checked here;
whether a schema can be followed shows when it is compiled (`server/api/state/grammar_cache.py`),
which takes too long for a parser.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests.value_readers import (
    closed_schema,
    fail,
    mapping,
    only,
    optional_boolean,
    optional_string,
    required,
    string,
)

MAX_DESCRIPTION = 4096
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Kind(StrEnum):
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    LARK = "lark"
    WITHOUT = "without"  # any text that holds none of these strings
    TOKENS = "tokens"  # of these token ids alone
    SERIALIZED = "serialized"  # llguidance's own form: comes back in receipts


@dataclass(frozen=True, slots=True)
class Constraint:
    """`source` is a regular expression or a grammar, or the JSON text of a schema or of a list.
    `path` leads from the field of the request to what is to blame if it does not compile.
    """

    kind: Kind
    source: str = ""
    path: str = ""


def parse_response_format(value: object, ignored: Ignored | None = None) -> Constraint | None:
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


def _named_schema(fields: dict[str, Any], path: str, ignored: Ignored | None) -> Constraint:
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
    return Constraint(Kind.JSON_SCHEMA, text_of(mapping(schema, path)), path)


def text_of(value: object) -> str:
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
