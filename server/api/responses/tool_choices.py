"""`tool_choice` as Responses has it: a mode, a tool, or those that may be called."""

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests import tool_fields
from thirdeye.server.api.requests.tool_fields import NAME_PATTERN
from thirdeye.server.api.requests.value_readers import closed_schema, fail, mapping, only, string

_MODES = ("none", "auto", "required")


def parse_tool_choice(value: object, ignored: Ignored | None = None) -> str | dict[str, Any]:
    """A mode, the function to call, or those that may be called: as it was sent."""
    if isinstance(value, str):
        if value not in _MODES:
            fail("invalid_value", "must be 'none', 'auto', 'required' or a function.")
        return value
    choice = mapping(value, wanted="a string or an object")
    if choice.get("type") == "allowed_tools":
        tool_fields.parse_tool_choice(choice, ignored)
        fields = choice.get("allowed_tools", choice)
        tools = [
            {"type": tool["type"], "name": tool.get(tool["type"], tool)["name"]}
            for tool in fields["tools"]
            if tool["type"] not in tool_fields.HOSTED_TOOLS
        ]
        return {"type": "allowed_tools", "mode": fields["mode"], "tools": tools}
    if choice.get("type") not in ("function", "custom"):
        fail("unsupported_value", "must be 'function', 'custom' or 'allowed_tools'.", ".type")
    name = string(choice.get("name"), ".name", "the name of a function")
    only(("type", "name"), choice, "", ignored)
    return {"type": choice["type"], "name": name}


ToolChoice = Annotated[
    str | dict[str, Any],
    PlainValidator(lambda value, info: parse_tool_choice(value, info.context)),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(_MODES)},
                closed_schema(
                    {
                        "type": {"enum": ["function", "custom"]},
                        "name": {"type": "string", "pattern": NAME_PATTERN},
                    },
                    "type",
                    "name",
                ),
                tool_fields.ALLOWED_FLAT,
            ]
        }
    ),
]
