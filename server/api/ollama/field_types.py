"""Fields of Ollama's requests whose type is a choice: what an answer looks like, what to embed."""

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.requests.fields import MAX_INPUTS
from thirdeye.server.api.requests.value_readers import array, fail, string, wrong_type


def read_inputs(value: object) -> list[str]:
    """One text or several, none of them empty."""
    if isinstance(value, str):
        return [_text(value, "")]
    items = array(value, wanted="a string or an array of strings")
    if not items:
        fail("array_below_min_length", "must hold at least 1 item, got 0.")
    if len(items) > MAX_INPUTS:
        rule = f"must hold at most {MAX_INPUTS} items, got {len(items)}."
        fail("array_above_max_length", rule)
    return [_text(item, f"[{i}]") for i, item in enumerate(items)]


def _text(value: object, path: str) -> str:
    text = string(value, path)
    if not text:
        fail("empty_string", "must not be an empty string.", path)
    return text


def read_format(value: object) -> str | dict[str, Any] | None:
    """`"json"` or a JSON schema; an empty string asks for nothing."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        wrong_type("'json' or a JSON schema", value)
    if value not in ("", "json"):
        fail("invalid_value", "must be 'json' or a JSON schema.")
    return value or None


Format = Annotated[
    str | dict[str, Any] | None,
    PlainValidator(read_format),
    WithJsonSchema({"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]}),
]
_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_INPUTS}
Texts = Annotated[
    list[str], PlainValidator(read_inputs), WithJsonSchema({"anyOf": [_TEXT, _TEXTS]})
]
