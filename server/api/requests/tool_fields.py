"""The fields of a request that are about tools: `tools` and `tool_choice`, read into plain data.

Only the first problem of a tool is reported, with its path. Whether a schema can be followed is
found when its grammar is made.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests.value_readers import (
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
from thirdeye.server.text.tools.definitions import (
    MAX_NAME_CHARS,
    NAME_CHARS,
    ChoiceMode,
    Tool,
    ToolChoice,
)

MAX_TOOLS = 128
_WORDS = ("none", "auto", "required", "any")  # the last is Mistral's name of `required`
_HINTS = ("cache_control", "response", "return", "returns")  # of a tool; its results are its own
HOSTED_TOOLS = (  # which run where the model does, at those who have them
    *("web_search", "web_search_2025_08_26", "web_search_preview"),
    *("web_search_preview_2025_03_11", "file_search", "code_interpreter", "local_shell", "shell"),
    *("mcp", "image_generation", "computer", "computer_use_preview", "apply_patch", "tool_search"),
)
_FUNCTIONS_ONLY = "must be 'function': function tools are the only ones."


def parse_tools(value: object, ignored: Ignored | None = None) -> tuple[Tool, ...]:
    """The tools, in order. An empty list is none."""
    items = array(value)
    if len(items) > MAX_TOOLS:
        fail("array_above_max_length", f"must hold at most {MAX_TOOLS} items, got {len(items)}.")
    tools = tuple(_tool(item, f"[{i}]", ignored) for i, item in enumerate(items))
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            fail("invalid_value", "must be unique.", f"[{i}].function.name")
        names.add(tool.name)
    return tools


def _tool(value: object, path: str, ignored: Ignored | None) -> Tool:
    tool = mapping(value, path)
    _function_type(tool, path)
    if "function" not in tool and tool.get("name") is not None:  # flat, as Responses has it
        return _function({k: v for k, v in tool.items() if k != "type"}, path, ignored)
    only(("type", "function"), tool, path, ignored, _HINTS)
    return _function(required(tool, "function", path), f"{path}.function", ignored)


def _function(value: object, path: str, ignored: Ignored | None) -> Tool:
    """`{"name", "description", "parameters", "strict"}`; null is "not given", but for the name."""
    function = mapping(value, path)
    only(("name", "description", "parameters", "strict"), function, path, ignored, _HINTS)
    parameters = function.get("parameters")
    is_strict = optional_boolean(function, "strict", path)
    return Tool(
        description=optional_string(function, "description", path),
        strict=is_strict,
        name=_name(required(function, "name", path), f"{path}.name"),
        parameters=_parameters(
            {} if parameters is None else parameters, f"{path}.parameters", bool(is_strict)
        ),
    )


def _parameters(value: object, path: str, is_strict: bool) -> Mapping[str, Any]:
    """The JSON schema of an object."""
    schema = mapping(value, path)
    if is_strict and schema.get("type", "object") != "object":
        fail("invalid_schema", "must be 'object': arguments are one.", f"{path}.type")
    return schema


def parse_tool_choice(value: object, ignored: Ignored | None = None) -> ToolChoice:
    """One of three words, or the one function to call."""
    if isinstance(value, str):
        return ToolChoice(_mode(value, ""))
    choice = mapping(value, wanted="a string or an object")
    kind = choice.get("type")
    if kind in _WORDS:
        only(("type",), choice, "", ignored)
        return ToolChoice(_mode(str(kind), ".type"))
    if kind == "allowed_tools":
        return _allowed(choice, ignored)
    _function_type(choice, "")
    if "function" not in choice and choice.get("name") is not None:  # as Responses has it
        only(("type", "name"), choice, "", ignored)
        return ToolChoice(ChoiceMode.NAMED, _name(choice["name"], ".name"))
    only(("type", "function"), choice, "", ignored)
    function = mapping(required(choice, "function", ""), ".function")
    only(("name",), function, ".function", ignored)
    name = required(function, "name", ".function")
    return ToolChoice(ChoiceMode.NAMED, _name(name, ".function.name"))


def _allowed(choice: Mapping[str, Any], ignored: Ignored | None) -> ToolChoice:
    """The tools that may be called, as chat has it or, without an object of their own, Responses.
    Of those that run elsewhere none can be called."""
    fields, path = {k: v for k, v in choice.items() if k != "type"}, ""
    if "allowed_tools" in choice:
        only(("type", "allowed_tools"), choice, "", ignored)
        fields, path = mapping(choice["allowed_tools"], ".allowed_tools"), ".allowed_tools"
    only(("mode", "tools"), fields, path, ignored)
    mode = required(fields, "mode", path)
    if mode not in ("auto", "required"):
        fail("invalid_value", "must be 'auto' or 'required'.", f"{path}.mode")
    names: list[str] = []
    for i, item in enumerate(array(required(fields, "tools", path), f"{path}.tools")):
        tool, at = mapping(item, f"{path}.tools[{i}]"), f"{path}.tools[{i}]"
        if tool.get("type") in HOSTED_TOOLS:
            continue
        _function_type(tool, at)
        only(("type", "function" if "function" in tool else "name"), tool, at, ignored)
        if "function" in tool:
            tool, at = mapping(tool["function"], f"{at}.function"), f"{at}.function"
            only(("name",), tool, at, ignored)
        names.append(_name(required(tool, "name", at), f"{at}.name"))
    if not names:
        fail(
            "invalid_value",
            "must hold a function: function tools are the only ones.",
            f"{path}.tools",
        )
    return ToolChoice(ChoiceMode(mode), allowed=tuple(names))


def _mode(word: str, path: str) -> ChoiceMode:
    if word not in _WORDS:
        fail("invalid_value", "must be 'none', 'auto', 'required' or a function.", path)
    return ChoiceMode.REQUIRED if word == "any" else ChoiceMode(word)


def _function_type(value: Mapping[str, Any], path: str) -> None:
    if string(required(value, "type", path), f"{path}.type") != "function":
        fail("unsupported_value", _FUNCTIONS_ONLY, f"{path}.type")


def _name(value: object, path: str) -> str:
    name = string(value, path)
    if not (0 < len(name) <= MAX_NAME_CHARS and NAME_CHARS.issuperset(name)):
        rule = f"must be 1 to {MAX_NAME_CHARS} letters, digits, '_', '-', '.' or '/'."
        fail("invalid_value", rule, path)
    return name


NAME_PATTERN = f"^[a-zA-Z0-9_./-]{{1,{MAX_NAME_CHARS}}}$"
# For dialects that become a chat request: chat says whether a name is well made, these tell it to
# the outside.
FunctionName = Annotated[str, Field(json_schema_extra={"pattern": NAME_PATTERN})]
# For names of which chat sees a part alone.
ToolName = Annotated[FunctionName, AfterValidator(lambda value: _name(value, ""))]
CalledName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


def read_arguments(value: object) -> str:
    """A call's arguments as JSON text; some programs send the object that it stands for."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return string(value, wanted="a string or an object")


Arguments = Annotated[
    str, PlainValidator(read_arguments), WithJsonSchema({"type": ["string", "object"]})
]

_NAME: dict[str, Any] = {"type": "string", "pattern": NAME_PATTERN}
_FUNCTION = closed_schema(
    {
        "name": _NAME,
        "description": {"type": ["string", "null"]},
        "parameters": {
            "type": ["object", "null"],
        },
        "strict": {"type": ["boolean", "null"]},
    },
    "name",
)
_NAMED = closed_schema({"name": _NAME}, "name")


_ALLOWED_ITEM = {
    "anyOf": [
        closed_schema({"type": {"const": "function"}, "function": _NAMED}, "type", "function"),
        closed_schema({"type": {"const": "function"}, "name": _NAME}, "type", "name"),
    ]
}
_ALLOWED_FIELDS: dict[str, Any] = {
    "mode": {"enum": ["auto", "required"]},
    "tools": {"type": "array", "items": _ALLOWED_ITEM, "minItems": 1},
}
_ALLOWED = closed_schema(_ALLOWED_FIELDS, "mode", "tools")
ALLOWED_FLAT = closed_schema(
    {"type": {"const": "allowed_tools"}} | _ALLOWED_FIELDS, "type", "mode", "tools"
)


def _function_object(function: dict[str, Any]) -> dict[str, Any]:
    properties = {"type": {"const": "function"}, "function": function}
    return closed_schema(properties, "type", "function")


def _tool_schema() -> dict[str, Any]:
    """A function in its object, or flat."""
    hints: dict[str, Any] = {name: {} for name in _HINTS}
    function = _FUNCTION | {"properties": _FUNCTION["properties"] | hints}
    flat = {"type": {"const": "function"}} | function["properties"]
    wrapped = {"type": {"const": "function"}, "function": function} | hints
    return {
        "anyOf": [
            closed_schema(wrapped, "type", "function"),
            closed_schema(flat, "type", "name"),
        ]
    }


Tools = Annotated[
    tuple[Tool, ...],
    PlainValidator(lambda value, info: parse_tools(value, info.context)),
    WithJsonSchema({"type": "array", "items": _tool_schema(), "maxItems": MAX_TOOLS}),
]
ToolChoiceField = Annotated[
    ToolChoice,
    PlainValidator(lambda value, info: parse_tool_choice(value, info.context)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(_WORDS)},
                closed_schema({"type": {"enum": list(_WORDS)}}, "type"),
                _function_object(_NAMED),
                closed_schema({"type": {"const": "function"}, "name": _NAME}, "type", "name"),
                closed_schema(
                    {"type": {"const": "allowed_tools"}, "allowed_tools": _ALLOWED},
                    "type",
                    "allowed_tools",
                ),
                ALLOWED_FLAT,
            ]
        }
    ),
]
