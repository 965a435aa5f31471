"""Tools that run where the model does, and items of a history that are theirs: there are none here.

Agents send these tools with every request. Beside functions they are left out, and named; where
nothing else could be called, they are refused. So are the items: what says something to a model is
told, what only a server could look up is left out.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tool_fields import HOSTED_TOOLS, FunctionName

LEFT_OUT_ITEMS = (
    *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
    *("mcp_list_tools", "tool_search_call", "tool_search_output"),
)
ItemName = Annotated[str, Field(max_length=256)]


class FunctionTool(Strict):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Foreign(BaseModel):
    """Whatever it holds, it is not looked at."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str


class HostedTool(Foreign):
    type: str = Field(json_schema_extra={"enum": list(HOSTED_TOOLS)})


class LeftOutItem(Foreign):
    type: str = Field(json_schema_extra={"enum": list(LEFT_OUT_ITEMS)})


class ShellAction(Strict):
    type: Literal["exec"]
    command: list[str] = Field(max_length=4096)
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class ShellCallItem(Strict):
    """A command that the caller ran: a call like any other."""

    type: Literal["local_shell_call"]
    call_id: ItemName
    action: ShellAction
    id: ItemName | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None

    @property
    def name(self) -> str:
        return "local_shell"

    @property
    def arguments(self) -> str:
        return json.dumps(self.action.model_dump(exclude_none=True, exclude={"type"}))


class ShellOutputItem(Strict):
    """Its call is named by `id`, or by `call_id`."""

    type: Literal["local_shell_call_output"]
    id: ItemName | None = None
    call_id: ItemName | None = None
    output: str
    status: Literal["in_progress", "completed", "incomplete"] | None = None


def left_out_tools(tools: Sequence[object], is_called: bool) -> list[str]:
    """The others, by their paths. Raises `InvalidRequest` where an answer could call nothing else.

    `is_called`: the choice lets the answer call tools.
    """
    hosted = [(i, tool) for i, tool in enumerate(tools) if isinstance(tool, HostedTool)]
    if hosted and is_called and len(hosted) == len(tools):
        kind = hosted[0][1].type
        rule = f"must be 'function': this server has no '{kind}'; send functions, or no tools."
        raise refuse("tools[0].type", rule, "unsupported_value")
    return [f"tools[{i}]" for i, _ in hosted]
