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
from thirdeye.server.api.field_rules.nothing import or_nothing
from thirdeye.server.api.requests.value_readers import (
    closed_schema,
    fail,
    mapping,
    only,
    optional_boolean,
    optional_string,
    required,
)

MAX_DESCRIPTION = 4096
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_TAGS = "use 'tools', or 'structured_outputs' with a grammar"


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
    """OpenAI's field; `text` asks for nothing. `strict` changes nothing: it is always enforced.
    Other servers take the schema beside the type, under either of its names."""
    sent = mapping(value)
    fields = {k: v for k, v in sent.items() if v is not None or k not in ("schema", "json_schema")}
    kind = required(fields, "type", "")
    if kind == "text":
        only(("type",), fields, "", ignored)
        return None
    if kind == "structural_tag":
        fail("unsupported_value", f"is not supported here: {_NO_TAGS}.", ".type")
    if kind not in ("json_object", "json_schema"):
        fail("invalid_value", "must be 'text', 'json_object' or 'json_schema'.", ".type")
    if fields.get("schema") is not None:
        only(("type", "schema"), fields, "", ignored)
        return _schema(fields["schema"], ".schema")
    if kind == "json_object":
        only(("type", "schema"), fields, "", ignored)
        return Constraint(Kind.JSON_OBJECT)
    only(("type", "schema", "json_schema"), fields, "", ignored)
    path = ".json_schema"
    return _named_schema(mapping(required(fields, "json_schema", ""), path), path, ignored)


def _named_schema(fields: dict[str, Any], path: str, ignored: Ignored | None) -> Constraint:
    """`{"name", "schema", "strict", "description"}`; without a schema, any object will do. The name
    is for nothing here, so it may be left out."""
    name = optional_string(fields, "name", path)
    if name is not None and not NAME.fullmatch(name):
        fail("invalid_value", "must be 1 to 64 letters, digits, '_' or '-'.", f"{path}.name")
    if len(optional_string(fields, "description", path) or "") > MAX_DESCRIPTION:
        rule = f"must be at most {MAX_DESCRIPTION} characters long."
        fail("string_above_max_length", rule, f"{path}.description")
    optional_boolean(fields, "strict", path)
    only(("name", "schema", "strict", "description"), fields, path, ignored)
    if fields.get("schema") is None:
        return Constraint(Kind.JSON_OBJECT)
    return _schema(fields["schema"], f"{path}.schema")


def _schema(value: object, path: str) -> Constraint:
    return Constraint(Kind.JSON_SCHEMA, text_of(mapping(value, path)), path)


def text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_NAMED = closed_schema(
    {
        "name": or_nothing({"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}),
        "description": or_nothing({"type": "string", "maxLength": MAX_DESCRIPTION}),
        "schema": {"type": ["object", "null"]},
        "strict": or_nothing({"type": "boolean"}),
    },
)
_NONE: dict[str, Any] = {"json_schema": {"type": "null"}}
_BESIDE: dict[str, Any] = {"schema": {"type": ["object", "null"]}} | _NONE
ResponseFormat = Annotated[
    Constraint | None,
    PlainValidator(lambda value, info: parse_response_format(value, info.context)),
    WithJsonSchema(
        {
            "anyOf": [
                closed_schema(
                    {"type": {"const": "text"}, "schema": {"type": "null"}} | _NONE, "type"
                ),
                closed_schema({"type": {"const": "json_object"}} | _BESIDE, "type"),
                closed_schema(
                    {
                        "type": {"const": "json_schema"},
                        "json_schema": _NAMED,
                        "schema": {"type": "null"},
                    },
                    "type",
                    "json_schema",
                ),
                closed_schema(
                    {"type": {"const": "json_schema"}, "schema": {"type": "object"}} | _NONE,
                    "type",
                    "schema",
                ),
            ]
        }
    ),
]
