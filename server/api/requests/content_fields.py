"""The content of a message: a string, or a list of parts that are text, read as one string."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.nothing import or_nothing
from thirdeye.server.api.requests.value_readers import (
    array,
    closed_schema,
    fail,
    mapping,
    only,
    string,
)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A kind of content part that is text: the key of the text, and keys that may be beside it."""

    key: str = "text"
    hints: frozenset[str] = frozenset()


PART_MARKS = ("cache_control", "prompt_cache_breakpoint")  # on any part; hints, which are named
TEXT_PARTS = {
    "text": TextPart(),
    "input_text": TextPart(),
    "output_text": TextPart(hints=frozenset({"annotations", "logprobs"})),
}
ASSISTANT_PARTS = TEXT_PARTS | {"refusal": TextPart("refusal")}


def parse_content(
    value: object, kinds: Mapping[str, TextPart], ignored: Ignored | None = None, path: str = ""
) -> str:
    """A message's text: a string, or text parts joined without a separator.

    Unknown keys of a part are refused, or named in `ignored` if it is given.
    """
    if isinstance(value, str):
        return value
    parts = array(value, path, "a string or a list of text parts")
    return "".join(_part(part, f"{path}[{i}]", kinds, ignored) for i, part in enumerate(parts))


def _part(value: object, path: str, kinds: Mapping[str, TextPart], ignored: Ignored | None) -> str:
    part = mapping(value, path)
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        wanted = next(iter(kinds))
        rule = f"must be a part of type '{wanted}': text is all it reads."
        fail("unsupported_content", rule, path)
    key = kinds[kind].key
    text = string(part.get(key), f"{path}.{key}")
    only({"type", key} | kinds[kind].hints, part, path, ignored, PART_MARKS)
    return text


def content_schema(kinds: Mapping[str, TextPart], *others: dict[str, Any]) -> dict[str, Any]:
    parts = {"anyOf": [*(_part_schema(name, part) for name, part in kinds.items()), *others]}
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": parts}]}


def _part_schema(name: str, part: TextPart) -> dict[str, Any]:
    marks: dict[str, Any] = {mark: {} for mark in sorted({*part.hints, *PART_MARKS})}
    properties = {"type": {"const": name}, part.key: {"type": "string"}} | marks
    return closed_schema(properties, "type", part.key)


Content = Annotated[
    str,
    PlainValidator(lambda value, info: parse_content(value, TEXT_PARTS, info.context)),
    WithJsonSchema(content_schema(TEXT_PARTS)),
]
_THOUGHT = closed_schema(  # Mistral's, which `reasoning/sent_thoughts.py` takes out
    {
        "type": {"const": "thinking"},
        "thinking": content_schema(TEXT_PARTS),
        "closed": or_nothing({"type": "boolean"}),
        "signature": or_nothing({"type": "string"}),
    },
    *("type", "thinking"),
)
AssistantContent = Annotated[
    str | None,
    PlainValidator(lambda value, info: parse_content(value, ASSISTANT_PARTS, info.context)),
    WithJsonSchema(content_schema(ASSISTANT_PARTS, _THOUGHT)),
]
