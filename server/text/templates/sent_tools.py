"""Tools as a template can read them, where it was written for fuller ones than were sent.

Most print each definition as JSON. Some add its texts up, and end at a tool without a description
(gpt-oss, Hermes 2 and 3) or without properties (Seed-OSS), at a list of types (Hermes), or without
tools (Command R+), though all of these are good requests. Such a template is given what it lacks,
empty; one that can do with what was sent gets exactly that, as in `transformers`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Definitions = Sequence[Mapping[str, Any]]


def readable_forms(tools: Definitions | None) -> Iterator[Definitions | None]:
    """What to give a template in the place of `tools`, the first one that it can render."""
    yield tools
    if not tools:
        yield []
        return
    filled = [_filled(tool) for tool in tools]
    yield filled
    yield [_with_alternatives(tool) for tool in filled]


def _filled(tool: Mapping[str, Any]) -> dict[str, Any]:
    """With a description, and with properties that each have one."""
    function = {"description": "", **tool.get("function", {})}
    parameters = {"properties": {}, **_described(function.get("parameters", {}))}
    return {**tool, "function": {**function, "parameters": parameters}}


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, in which each property has a description."""
    own = dict(schema)
    properties = own.get("properties")
    if isinstance(properties, Mapping):
        own["properties"] = {k: _property(each) for k, each in properties.items()}
    if isinstance(own.get("items"), Mapping):
        own["items"] = _described(own["items"])
    return own


def _property(schema: object) -> dict[str, Any]:
    return {"description": "", **(_described(schema) if isinstance(schema, Mapping) else {})}


def _with_alternatives(value: Any) -> Any:
    """Every `type` that is a list is an `anyOf` of its types."""
    if isinstance(value, list):
        return [_with_alternatives(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    own = {key: _with_alternatives(item) for key, item in value.items()}
    if isinstance(value.get("type"), list):
        own = {"anyOf": [{"type": each} for each in own.pop("type")], **own}
    return own
