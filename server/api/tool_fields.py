"""The fields of a request that are about tools: `tools` and `tool_choice`, read into plain data.

Only the first problem of a tool is reported, with its path. Whether a schema can be followed is
found when its grammar is made.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from server.api.fields import fail, json_type
from server.text.tools.definitions import (
    MAX_NAME_CHARS,
    NAME_CHARS,
    ChoiceMode,
    Tool,
    ToolChoice,
)

MAX_TOOLS = 128
_MODES = ("none", "auto", "required")
_FUNCTIONS_ONLY = "must be 'function': function tools are the only ones."


def parse_tools(value: object) -> tuple[Tool, ...]:
    """The tools, in order. An empty list is none."""
    if not isinstance(value, list):
        fail("invalid_type", f"must be an array, got {json_type(value)}.")
    if len(value) > MAX_TOOLS:
        fail("array_above_max_length", f"must hold at most {MAX_TOOLS} items, got {len(value)}.")
    tools = tuple(_tool(item, f"[{i}]") for i, item in enumerate(value))
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            fail("invalid_value", "must be unique.", f"[{i}].function.name")
        names.add(tool.name)
    return tools


def _tool(value: object, path: str) -> Tool:
    tool = _object(value, path)
    _function_type(tool, path)
    _no_more_than(("type", "function"), tool, path)
    return parse_function(_required(tool, "function", path), f"{path}.function")


def parse_function(value: object, path: str) -> Tool:
    """`{"name", "description", "parameters", "strict"}`; null is "not given", but for the name."""
    function = _object(value, path)
    _no_more_than(("name", "description", "parameters", "strict"), function, path)
    description, strict = function.get("description"), function.get("strict")
    if not isinstance(description, str | None):
        fail(
            "invalid_type",
            f"must be a string, got {json_type(description)}.",
            f"{path}.description",
        )
    if not isinstance(strict, bool | None):
        fail("invalid_type", f"must be a boolean, got {json_type(strict)}.", f"{path}.strict")
    parameters = function.get("parameters")
    return Tool(
        name=_name(_required(function, "name", path), f"{path}.name"),
        description=description,
        parameters=parse_parameters({} if parameters is None else parameters, f"{path}.parameters"),
        strict=strict,
    )


def parse_parameters(value: object, path: str) -> Mapping[str, Any]:
    """The JSON schema of an object."""
    schema = _object(value, path)
    if schema.get("type", "object") != "object":
        fail("invalid_schema", "must be 'object': arguments are one.", f"{path}.type")
    return schema


def parse_tool_choice(value: object) -> ToolChoice:
    """One of three words, or the one function to call."""
    if isinstance(value, str):
        if value not in _MODES:
            fail("invalid_value", "must be 'none', 'auto', 'required' or a function.")
        return ToolChoice(ChoiceMode(value))
    choice = _object(value, "", "a string or an object")
    _function_type(choice, "")
    _no_more_than(("type", "function"), choice, "")
    function = _object(_required(choice, "function", ""), ".function")
    _no_more_than(("name",), function, ".function")
    name = _required(function, "name", ".function")
    return ToolChoice(ChoiceMode.NAMED, _name(name, ".function.name"))


def _object(value: object, path: str, wanted: str = "an object") -> dict[str, Any]:
    if not isinstance(value, dict):
        fail("invalid_type", f"must be {wanted}, got {json_type(value)}.", path)
    return value


def _required(value: Mapping[str, Any], name: str, path: str) -> object:
    if value.get(name) is None:
        fail("missing_required_parameter", "is required.", f"{path}.{name}")
    return value[name]


def _function_type(value: Mapping[str, Any], path: str) -> None:
    kind = _required(value, "type", path)
    if not isinstance(kind, str):
        fail("invalid_type", f"must be a string, got {json_type(kind)}.", f"{path}.type")
    if kind != "function":
        fail("unsupported_value", _FUNCTIONS_ONLY, f"{path}.type")


def _no_more_than(names: tuple[str, ...], value: Mapping[str, Any], path: str) -> None:
    for name in value:
        if name not in names:
            fail("unknown_parameter", "is not a known field.", f"{path}.{name[:40]}")


def _name(value: object, path: str) -> str:
    if not isinstance(value, str):
        fail("invalid_type", f"must be a string, got {json_type(value)}.", path)
    if not (0 < len(value) <= MAX_NAME_CHARS and NAME_CHARS.issuperset(value)):
        rule = f"must be 1 to {MAX_NAME_CHARS} letters, digits, '_' or '-'."
        fail("invalid_value", rule, path)
    return value


_NAME: dict[str, Any] = {"type": "string", "pattern": f"^[a-zA-Z0-9_-]{{1,{MAX_NAME_CHARS}}}$"}
_FUNCTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": _NAME,
        "description": {"type": ["string", "null"]},
        "parameters": {
            "type": ["object", "null"],
            "properties": {"type": {"const": "object"}},
        },
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def _function_object(function: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": "function"}, "function": function},
        "required": ["type", "function"],
        "additionalProperties": False,
    }


_NAMED = {k: v for k, v in _FUNCTION.items() if k != "properties"} | {"properties": {"name": _NAME}}

Tools = Annotated[
    tuple[Tool, ...],
    PlainValidator(parse_tools),
    WithJsonSchema({"type": "array", "items": _function_object(_FUNCTION), "maxItems": MAX_TOOLS}),
]
ToolChoiceField = Annotated[
    ToolChoice,
    PlainValidator(parse_tool_choice),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": list(_MODES)}, _function_object(_NAMED)]}),
]
