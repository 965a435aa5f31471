"""`functions` and `function_call` of a request: OpenAI's deprecated form of tools, read into the
same plain data. The choice of one function is an object of its name alone.
"""

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests.tool_fields import (
    FUNCTION_SCHEMA,
    MAX_TOOLS,
    NAMED_SCHEMA,
    read_function,
    read_name,
)
from thirdeye.server.api.requests.value_readers import array, fail, mapping, only, required
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolChoice


def parse_functions(value: object, ignored: Ignored | None = None) -> tuple[Tool, ...]:
    items = array(value)
    if len(items) > MAX_TOOLS:
        fail("array_above_max_length", f"must hold at most {MAX_TOOLS} items, got {len(items)}.")
    functions = tuple(read_function(item, f"[{i}]", ignored) for i, item in enumerate(items))
    names: set[str] = set()
    for i, function in enumerate(functions):
        if function.name in names:
            fail("invalid_value", "must be unique.", f"[{i}].name")
        names.add(function.name)
    return functions


def parse_function_call(value: object, ignored: Ignored | None = None) -> ToolChoice:
    if isinstance(value, str):
        if value not in ("none", "auto"):
            fail("invalid_value", "must be 'none', 'auto' or an object with a 'name'.")
        return ToolChoice(ChoiceMode(value))
    choice = mapping(value, wanted="'none', 'auto' or an object with a 'name'")
    only(("name",), choice, "", ignored)
    return ToolChoice(ChoiceMode.NAMED, read_name(required(choice, "name", ""), ".name"))


_CALL: dict[str, Any] = {"anyOf": [{"enum": ["none", "auto"]}, NAMED_SCHEMA]}
Functions = Annotated[
    tuple[Tool, ...],
    PlainValidator(lambda value, info: parse_functions(value, info.context)),
    WithJsonSchema({"type": "array", "items": FUNCTION_SCHEMA, "maxItems": MAX_TOOLS}),
]
FunctionChoice = Annotated[
    ToolChoice,
    PlainValidator(lambda value, info: parse_function_call(value, info.context)),
    WithJsonSchema(_CALL),
]
