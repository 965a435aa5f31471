"""The tools that a request offers: functions, custom tools, namespaces of both, and tools that run
where a model does, of which there are none here.

To a model each tool of a namespace is a function `namespace.name`; an answer shows the two apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import kinds, of_kind
from thirdeye.server.api.requests.tool_fields import HOSTED_TOOLS, MAX_TOOLS, ToolName
from thirdeye.server.api.responses.custom_tools import CallerHint, CustomTool
from thirdeye.server.api.responses.hosted import HostedTool


class FunctionTool(Strict):
    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    # hints: calls come from the answer alone, and at once
    allowed_callers: CallerHint = None
    defer_loading: Annotated[bool, Hint((False,))] = False
    is_async: Annotated[bool, Hint((False,))] = Field(False, alias="async")
    output_schema: AnyHint = None

    def as_chat(self) -> JsonObject:
        """In chat's words."""
        shown = self.model_dump(include=_SHOWN - {"type"}, exclude_none=True)
        return {"type": "function", "function": shown}


CallableTool = Annotated[
    Annotated[FunctionTool, Tag("<function>")] | Annotated[CustomTool, Tag("<custom>")],
    *kinds("function", "custom", code="unsupported_value"),
]


class NamespaceTool(Strict):
    """Tools that belong together. What is said of all of them stands before the first."""

    type: Literal["namespace"]
    name: ToolName
    description: str | None = None
    tools: list[CallableTool] = Field(default_factory=list, max_length=MAX_TOOLS)


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else value.type
    return "<hosted>" if kind in HOSTED_TOOLS else f"<{kind}>"


Tool = Annotated[
    Annotated[FunctionTool, Tag("<function>")]
    | Annotated[CustomTool, Tag("<custom>")]
    | Annotated[NamespaceTool, Tag("<namespace>")]
    | Annotated[HostedTool, Tag("<hosted>")],
    Discriminator(_tag),
    of_kind("function", "custom", "namespace", *HOSTED_TOOLS, code="unsupported_value"),
]


@dataclass(frozen=True, slots=True)
class ToolAddress:
    """What a call names."""

    name: str
    namespace: str | None = None

    @property
    def joined(self) -> str:
        """As a model has it."""
        return self.name if self.namespace is None else f"{self.namespace}.{self.name}"

    def shown(self) -> JsonObject:
        """As an item of an answer has it."""
        beside = {} if self.namespace is None else {"namespace": self.namespace}
        return {"name": self.name, **beside}


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool that can be called here."""

    path: str  # where it stands in the request
    tool: FunctionTool | CustomTool
    address: ToolAddress
    heading: str = ""  # of its namespace, where it is the first

    def as_chat(self) -> JsonObject:
        told = "\n\n".join(filter(None, (self.heading, self.tool.description)))
        changed = self.tool.model_copy(
            update={"name": self.address.joined, "description": told or None}
        )
        return changed.as_chat()


def offered_tools(tools: Sequence[Tool]) -> Iterator[OfferedTool]:
    for i, tool in enumerate(tools):
        match tool:
            case FunctionTool() | CustomTool():
                yield OfferedTool(f"tools[{i}]", tool, ToolAddress(tool.name))
            case NamespaceTool():
                for j, inner in enumerate(tool.tools):
                    address = ToolAddress(inner.name, tool.name)
                    heading = "" if j else tool.description or ""
                    yield OfferedTool(f"tools[{i}].tools[{j}]", inner, address, heading)


def left_out_tools(tools: Sequence[Tool], is_called: bool) -> list[str]:
    """The others, by their paths. Raises `InvalidRequest` where an answer could call nothing else.

    `is_called`: the choice lets the answer call tools.
    """
    hosted = [(i, tool) for i, tool in enumerate(tools) if isinstance(tool, HostedTool)]
    if hosted and is_called and not any(offered_tools(tools)):
        (i, tool), *_ = hosted
        rule = f"must be 'function': this server has no '{tool.type}'; send functions, or no tools."
        raise refuse(f"tools[{i}].type", rule, "unsupported_value")
    return [f"tools[{i}]" for i, _ in hosted]


_SHOWN = {"type", "name", "description", "parameters", "strict", "format"}


def shown_tools(tools: Sequence[Tool]) -> list[JsonObject]:
    """As a response repeats them; those that were left out are not there."""
    return [_shown(tool) for tool in tools if not isinstance(tool, HostedTool)]


def _shown(tool: FunctionTool | CustomTool | NamespaceTool) -> JsonObject:
    match tool:
        case FunctionTool():
            return tool.model_dump(include=_SHOWN)
        case CustomTool():
            return tool.model_dump(include=_SHOWN, exclude_none=True)
        case NamespaceTool():
            head = {"type": tool.type, "name": tool.name, "description": tool.description or ""}
            return {**head, "tools": [_shown(inner) for inner in tool.tools]}
