"""What an answer has to look like, in the fields of other servers: vLLM's `structured_outputs` and
its older `guided_…`, llama.cpp's `grammar` and `json_schema`, SGLang's `regex` and `ebnf`.

Each becomes a `Constraint`; an empty one asks for nothing.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.http.json_body import decode_object
from thirdeye.server.api.requests.response_formats import Constraint, Kind, text_of
from thirdeye.server.api.requests.value_readers import (
    array,
    closed_schema,
    fail,
    mapping,
    only,
    string,
    wrong_type,
)
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.constraints.constraint import MAX_GRAMMAR_BYTES, MAX_REGEX_BYTES

MAX_BAD_WORDS = 64
MAX_ALLOWED_IDS = 1024


def parse_structured_outputs(value: object, ignored: Ignored | None = None) -> Constraint | None:
    """vLLM's field: one of json, json_object, regex, choice and grammar. `{}` asks for nothing."""
    given = {name: item for name, item in mapping(value).items() if item is not None}
    for name, why in _FIXED.items():
        if given.pop(name, False) is not False:
            fail("unsupported_parameter", f"is not supported here: {why}.", f".{name}")
    only(_FORMS, given, "", ignored, _BACKENDS)
    fields = {name: item for name, item in given.items() if name in _FORMS}
    if len(fields) > 1:
        fail("invalid_value", f"must hold exactly one of {', '.join(_FORMS)}.")
    for name, item in fields.items():
        return _FORMS[name](item, f".{name}")
    return None


def read_json(value: object, path: str = "") -> Constraint:
    """A schema, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = decode_object(value.encode())
        except InvalidRequest:
            fail("invalid_schema", "is a string, but not the JSON text of a schema.", path)
    return Constraint(Kind.JSON_SCHEMA, text_of(mapping(value, path)), path)


def read_json_object(value: object, path: str = "") -> Constraint | None:
    if not isinstance(value, bool):
        wrong_type("a boolean", value, path)
    return Constraint(Kind.JSON_OBJECT, path=path) if value else None


def read_regex(value: object, path: str = "") -> Constraint | None:
    pattern = _bounded(value, path, MAX_REGEX_BYTES)
    return Constraint(Kind.REGEX, pattern, path) if pattern else None


def read_grammar(value: object, path: str = "") -> Constraint | None:
    """Lark's notation or GBNF's."""
    text = _bounded(value, path, MAX_GRAMMAR_BYTES)
    return Constraint(Kind.LARK, text, path) if text.strip() else None


def _bounded(value: object, path: str, limit: int) -> str:
    """Read where it stands: some routes take it and compile nothing."""
    text = string(value, path)
    if (size := len(text.encode(errors="replace"))) > limit:
        fail("invalid_schema", f"must be at most {limit} bytes long, got {size}.", path)
    return text


def read_choice(value: object, path: str = "") -> Constraint | None:
    items = array(value, path, "an array of strings")
    options = [string(option, f"{path}[{i}]") for i, option in enumerate(items)]
    if not all(options):  # said where it stands: some routes compile nothing
        fail("invalid_schema", "must hold no empty string.", f"{path}[{options.index('')}]")
    return Constraint(Kind.CHOICE, text_of(options), path) if options else None


def read_bad_words(value: object) -> Constraint | None:
    """Strings that the answer does not hold."""
    words = [string(word, f"[{i}]") for i, word in enumerate(array(value))]
    if len(words) > MAX_BAD_WORDS:
        fail("array_above_max_length", f"must hold at most {MAX_BAD_WORDS} items.")
    words = [word for word in words if word]
    return Constraint(Kind.WITHOUT, text_of(words)) if words else None


def read_allowed_ids(value: object) -> Constraint | None:
    """Ids of the tokens that the answer is made of."""
    ids = array(value)
    if len(ids) > MAX_ALLOWED_IDS:
        fail("array_above_max_length", f"must hold at most {MAX_ALLOWED_IDS} items.")
    for i, token_id in enumerate(ids):
        if type(token_id) is not int:
            wrong_type("an integer token id", token_id, f"[{i}]")
        if not 0 <= token_id < 2**31:
            fail("invalid_value", "must be a token id of the vocabulary.", f"[{i}]")
    return Constraint(Kind.TOKENS, text_of(ids)) if ids else None


_FORMS: dict[str, Callable[[object, str], Constraint | None]] = {
    "json": read_json,
    "json_object": read_json_object,
    "regex": read_regex,
    "choice": read_choice,
    "grammar": read_grammar,
}
_FIXED = {  # vLLM's ways to make a grammar; false asks for nothing
    "disable_any_whitespace": "blanks between the parts of JSON are few",
    "disable_additional_properties": "say 'additionalProperties': false in the schema",
    "whitespace_pattern": "blanks between the parts of JSON are few",
    "structural_tag": "use 'tools'",
}
_BACKENDS = ("backend", "disable_fallback")  # which program makes the grammar

_SCHEMA: dict[str, Any] = {"type": ["object", "string"]}
_PATTERN: dict[str, Any] = {"type": "string", "maxLength": MAX_REGEX_BYTES}
_GRAMMAR: dict[str, Any] = {"type": "string", "maxLength": MAX_GRAMMAR_BYTES}
_CHOICE: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}
_IDS: dict[str, Any] = {"type": "integer", "minimum": 0, "format": "token-id"}

JsonForm = Annotated[Constraint | None, PlainValidator(read_json), WithJsonSchema(_SCHEMA)]
JsonObjectForm = Annotated[
    Constraint | None, PlainValidator(read_json_object), WithJsonSchema({"type": "boolean"})
]
RegexForm = Annotated[Constraint | None, PlainValidator(read_regex), WithJsonSchema(_PATTERN)]
ChoiceForm = Annotated[Constraint | None, PlainValidator(read_choice), WithJsonSchema(_CHOICE)]
GrammarForm = Annotated[Constraint | None, PlainValidator(read_grammar), WithJsonSchema(_GRAMMAR)]
BadWords = Annotated[
    Constraint | None,
    PlainValidator(read_bad_words),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "maxItems": MAX_BAD_WORDS}),
]
AllowedIds = Annotated[
    Constraint | None,
    PlainValidator(read_allowed_ids),
    WithJsonSchema({"type": "array", "items": _IDS, "maxItems": MAX_ALLOWED_IDS}),
]
# One of them at most, which is told in words: `UNTOLD` of `openapi/rules.py`.
_OPTIONS: dict[str, Any] = {
    name: {"anyOf": [of, {"type": "null"}]}
    for name, of in {
        "json": _SCHEMA,
        "json_object": {"type": "boolean"},
        "regex": _PATTERN,
        "choice": _CHOICE,
        "grammar": _GRAMMAR,
    }.items()
}
_OPTIONS |= {key: {} for key in _BACKENDS} | {key: {"enum": [False, None]} for key in _FIXED}
StructuredOutputs = Annotated[
    Constraint | None,
    PlainValidator(lambda value, info: parse_structured_outputs(value, info.context)),
    WithJsonSchema(closed_schema(_OPTIONS)),
]
