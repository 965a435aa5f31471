"""The tools of a request in Anthropic's dialect.

custom      described by the request: a function
client's    bash, text editor, memory: run by the caller, by a schema that models are to know. The
            type says which; here it is a function of that schema
hosted      run by Anthropic, or look at pictures: there are none of them here. Beside others they
            are left out and named; alone they are refused
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from thirdeye.server.api.anthropic.cache_control import CacheHint
from thirdeye.server.api.anthropic.client_tools import CLIENT_TOOLS
from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.field_rules.nothing import is_empty
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.requests.strict_model import Limit, Strict
from thirdeye.server.api.requests.tool_fields import FunctionName
from thirdeye.server.api.requests.value_readers import fail, mapping

HOSTED = (
    r"^((web_search|web_fetch|code_execution|computer(_toolset)?|browser_toolset"
    r"|advisor|tool_search_tool_(regex|bm25))_[0-9]{8}"
    r"|tool_search_tool_(regex|bm25)|mcp_toolset)$"
)


class AnthropicTool(Strict):
    name: FunctionName
    strict: bool | None = None
    cache_control: CacheHint = None
    eager_input_streaming: bool | None = None  # arguments are streamed as they come anyway
    defer_loading: Annotated[bool, Hint((False,))] = False
    input_examples: AnyHint = None
    allowed_callers: Annotated[Any, Hint((["direct"],))] = None


class DescribedTool(AnthropicTool):
    type: Literal["custom"] = "custom"
    description: str | None = None
    input_schema: dict[str, Any]


class ClientTool(AnthropicTool):
    """`max_characters` is how much of a file the caller shows."""

    type: str = Field(json_schema_extra={"enum": list(CLIENT_TOOLS)})
    max_characters: Limit | None = None


class AnthropicHostedTool(BaseModel):
    """Whatever it holds, it is not looked at."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(json_schema_extra={"pattern": HOSTED})


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else value.type
    if is_empty(kind) or kind == "custom":
        return "<custom>"
    return "<client>" if kind in CLIENT_TOOLS else "<hosted>"


def _known(value: object) -> object:
    kind = mapping(value).get("type")
    if is_empty(kind) or kind in ("custom", *CLIENT_TOOLS):
        return value
    if not isinstance(kind, str) or not re.match(HOSTED, kind):
        names = ", ".join(f"'{name}'" for name in ("custom", *CLIENT_TOOLS))
        fail("unsupported_value", f"must be one of {names}.", ".type")
    return value


SentTool = Annotated[
    Annotated[DescribedTool, Tag("<custom>")]
    | Annotated[ClientTool, Tag("<client>")]
    | Annotated[AnthropicHostedTool, Tag("<hosted>")],
    Discriminator(_tag),
    BeforeValidator(_known),
]


def callable_tools(
    tools: Sequence[SentTool],
) -> Iterator[tuple[int, DescribedTool | ClientTool]]:
    """Those that an answer can call, with their places."""
    for i, tool in enumerate(tools):
        if not isinstance(tool, AnthropicHostedTool):
            yield i, tool


def left_out_tools(tools: Sequence[SentTool], is_called: bool) -> list[str]:
    """The paths of the others. Raises `InvalidRequest` where an answer could call nothing else.

    `is_called`: the choice lets the answer call tools.
    """
    hosted = [(i, tool) for i, tool in enumerate(tools) if isinstance(tool, AnthropicHostedTool)]
    if hosted and is_called and len(hosted) == len(tools):
        (i, tool), *_ = hosted
        rule = f"must be 'custom': this server has no '{tool.type}'; send tools that you run."
        raise refuse(f"tools[{i}].type", rule, "unsupported_value")
    return [f"tools[{i}]" for i, _ in hosted]


def as_function(tool: DescribedTool | ClientTool) -> JsonObject:
    """In chat's words, where `description` and `strict` may be null as here."""
    description, schema = _told(tool)
    function = {"name": tool.name, "description": description, "strict": tool.strict}
    return {"type": "function", "function": function | {"parameters": schema}}


def _told(tool: DescribedTool | ClientTool) -> tuple[str | None, dict[str, Any]]:
    if isinstance(tool, DescribedTool):
        return tool.description, tool.input_schema
    known = CLIENT_TOOLS[tool.type]
    return known.description, known.input_schema
