"""The fields of a request that are about tools: `tools` and `tool_choice`, read into plain data.

Only the first problem of a tool is reported, with its path. Whether a schema can be followed is
found when its grammar is made.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.nothing import NOTHING, is_empty, or_nothing
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
from thirdeye.server.text.tools.text_inputs import InputForm, custom_tool

MAX_TOOLS = 128
_WORDS = ("none", "auto", "required", "any")  # the last is Mistral's name of `required`
_HINTS = ("cache_control", "response", "return", "returns")  # of a tool; its results are its own
HOSTED_TOOLS = (  # which run where the model does, at those who have them
    *("web_search", "web_search_2025_08_26", "web_search_preview"),
    *("web_search_preview_2025_03_11", "file_search", "code_interpreter", "local_shell", "shell"),
    *("mcp", "image_generation", "computer", "computer_use_preview", "apply_patch", "tool_search"),
    "programmatic_tool_calling",
)
_KINDS_ONLY = "must be 'function' or 'custom': tools of these kinds are the only ones."
_NOT_CALLABLE = "must hold a function or a custom tool: these are the only ones."
MAX_DEFINITION_CHARS = 64 * 1024


def parse_tools(value: object, ignored: Ignored | None = None) -> tuple[Tool, ...]:
    """The tools, in order. An empty list is none."""
    items = array(value)
    if len(items) > MAX_TOOLS:
        fail("array_above_max_length", f"must hold at most {MAX_TOOLS} items, got {len(items)}.")
    tools = tuple(_tool(item, f"[{i}]", ignored) for i, item in enumerate(items))
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            kind = "function" if tool.text_input is None else "custom"
            fail("invalid_value", "must be unique.", f"[{i}].{kind}.name")
        names.add(tool.name)
    return tools


def _tool(value: object, path: str, ignored: Ignored | None) -> Tool:
    tool = mapping(value, path)
    if _kind_of(tool, path) == "custom":
        if "custom" not in tool and tool.get("name") is not None:
            return _custom({k: v for k, v in tool.items() if k != "type"}, path, ignored)
        only(("type", "custom"), tool, path, ignored, _HINTS)
        return _custom(required(tool, "custom", path), f"{path}.custom", ignored)
    if "function" not in tool and tool.get("name") is not None:  # flat, as Responses has it
        return read_function({k: v for k, v in tool.items() if k != "type"}, path, ignored)
    only(("type", "function"), tool, path, ignored, _HINTS)
    return read_function(required(tool, "function", path), f"{path}.function", ignored)


def read_function(value: object, path: str, ignored: Ignored | None) -> Tool:
    """`{"name", "description", "parameters", "strict"}`; null is "not given", but for the name."""
    function = mapping(value, path)
    only(("name", "description", "parameters", "strict"), function, path, ignored, _HINTS)
    parameters = function.get("parameters")
    is_strict = optional_boolean(function, "strict", path)
    return Tool(
        description=optional_string(function, "description", path),
        strict=is_strict,
        name=read_name(required(function, "name", path), f"{path}.name"),
        parameters=_parameters(
            {} if is_empty(parameters) else parameters, f"{path}.parameters", bool(is_strict)
        ),
    )


def _custom(value: object, path: str, ignored: Ignored | None) -> Tool:
    """`{"name", "description", "format"}`."""
    tool = mapping(value, path)
    only(("name", "description", "format"), tool, path, ignored, _HINTS)
    name = read_name(required(tool, "name", path), f"{path}.name")
    form = _input_form(tool.get("format"), f"{path}.format", ignored)
    return custom_tool(name, optional_string(tool, "description", path), form)


def _input_form(value: object, path: str, ignored: Ignored | None) -> InputForm | None:
    """`{"type": "grammar", "grammar": {"syntax", "definition"}}`, or these two beside the type as
    Responses has them."""
    if is_empty(value):
        return None
    fields = mapping(value, path)
    kind = string(required(fields, "type", path), f"{path}.type")
    if kind == "text":
        only(("type",), fields, path, ignored)
        return None
    if kind != "grammar":
        fail("invalid_value", "must be 'text' or 'grammar'.", f"{path}.type")
    if "grammar" in fields:
        only(("type", "grammar"), fields, path, ignored)
        fields, path = mapping(fields["grammar"], f"{path}.grammar"), f"{path}.grammar"
        only(("syntax", "definition"), fields, path, ignored)
    else:
        only(("type", "syntax", "definition"), fields, path, ignored)
    syntax = string(required(fields, "syntax", path), f"{path}.syntax")
    if syntax not in ("lark", "regex"):
        fail("invalid_value", "must be 'lark' or 'regex'.", f"{path}.syntax")
    definition = string(required(fields, "definition", path), f"{path}.definition")
    if not 0 < len(definition) <= MAX_DEFINITION_CHARS:
        rule = f"must be 1 to {MAX_DEFINITION_CHARS} characters long, got {len(definition)}."
        fail("invalid_value", rule, f"{path}.definition")
    return InputForm(syntax, definition)


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
    return ToolChoice(ChoiceMode.NAMED, _chosen(choice, "", ignored))


def _chosen(choice: Mapping[str, Any], path: str, ignored: Ignored | None) -> str:
    """The name of a tool, in an object of its kind or, as Responses has it, without one."""
    kind = _kind_of(choice, path)
    if kind not in choice and choice.get("name") is not None:
        only(("type", "name"), choice, path, ignored)
        return read_name(choice["name"], f"{path}.name")
    only(("type", kind), choice, path, ignored)
    tool = mapping(required(choice, kind, path), f"{path}.{kind}")
    only(("name",), tool, f"{path}.{kind}", ignored)
    return read_name(required(tool, "name", f"{path}.{kind}"), f"{path}.{kind}.name")


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
        names.append(_chosen(tool, at, ignored))
    if not names:
        fail("invalid_value", _NOT_CALLABLE, f"{path}.tools")
    return ToolChoice(ChoiceMode(mode), allowed=tuple(names))


def _mode(word: str, path: str) -> ChoiceMode:
    if word not in _WORDS:
        fail("invalid_value", "must be 'none', 'auto', 'required' or a function.", path)
    return ChoiceMode.REQUIRED if word == "any" else ChoiceMode(word)


def _kind_of(value: Mapping[str, Any], path: str) -> str:
    kind = string(required(value, "type", path), f"{path}.type")
    if kind not in ("function", "custom"):
        fail("unsupported_value", _KINDS_ONLY, f"{path}.type")
    return kind


def read_name(value: object, path: str) -> str:
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
ToolName = Annotated[FunctionName, AfterValidator(lambda value: read_name(value, ""))]
CalledName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


def read_arguments(value: object) -> str:
    """A call's arguments as JSON text; some programs send the object that it stands for. What has
    nothing in it is an object without keys."""
    if is_empty(value):
        return "{}"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return string(value, wanted="a string or an object")


Arguments = Annotated[
    str,
    PlainValidator(read_arguments),
    WithJsonSchema({"anyOf": [{"type": ["string", "object"]}, {"type": "array", "maxItems": 0}]}),
]

_NAME: dict[str, Any] = {"type": "string", "pattern": NAME_PATTERN}
_TOLD: dict[str, Any] = {"name": _NAME, "description": or_nothing({"type": "string"})}
FUNCTION_SCHEMA = closed_schema(
    {
        **_TOLD,
        "parameters": or_nothing({"type": "object"}),
        "strict": or_nothing({"type": "boolean"}),
    },
    "name",
)
NAMED_SCHEMA = closed_schema({"name": _NAME}, "name")


_NAMED_TOOLS: list[dict[str, Any]] = [
    closed_schema({"type": {"const": "function"}, "function": NAMED_SCHEMA}, "type", "function"),
    closed_schema({"type": {"const": "custom"}, "custom": NAMED_SCHEMA}, "type", "custom"),
    closed_schema({"type": {"enum": ["function", "custom"]}, "name": _NAME}, "type", "name"),
]
_ALLOWED_ITEM = {"anyOf": _NAMED_TOOLS}
_ALLOWED_FIELDS: dict[str, Any] = {
    "mode": {"enum": ["auto", "required"]},
    "tools": {"type": "array", "items": _ALLOWED_ITEM, "minItems": 1},
}
_ALLOWED = closed_schema(_ALLOWED_FIELDS, "mode", "tools")
ALLOWED_FLAT = closed_schema(
    {"type": {"const": "allowed_tools"}} | _ALLOWED_FIELDS, "type", "mode", "tools"
)


_GRAMMAR: dict[str, Any] = {
    "syntax": {"enum": ["lark", "regex"]},
    "definition": {"type": "string", "minLength": 1, "maxLength": MAX_DEFINITION_CHARS},
}
_FORMAT = {
    "anyOf": [
        NOTHING,
        closed_schema({"type": {"const": "text"}}, "type"),
        closed_schema({"type": {"const": "grammar"}} | _GRAMMAR, "type", *_GRAMMAR),
        closed_schema(
            {"type": {"const": "grammar"}, "grammar": closed_schema(_GRAMMAR, *_GRAMMAR)},
            "type",
            "grammar",
        ),
    ]
}


def _tool_schema() -> dict[str, Any]:
    """A function or a custom tool in its object, or flat."""
    hints: dict[str, Any] = {name: {} for name in _HINTS}
    function = FUNCTION_SCHEMA | {"properties": FUNCTION_SCHEMA["properties"] | hints}
    flat = {"type": {"const": "function"}} | function["properties"]
    custom = closed_schema({**_TOLD, "format": _FORMAT} | hints, "name")
    wrapped = {"type": {"const": "function"}, "function": function} | hints
    return {
        "anyOf": [
            closed_schema(wrapped, "type", "function"),
            closed_schema(flat, "type", "name"),
            closed_schema(
                {"type": {"const": "custom"}, "custom": custom} | hints, "type", "custom"
            ),
            closed_schema({"type": {"const": "custom"}} | custom["properties"], "type", "name"),
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
                *_NAMED_TOOLS,
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
