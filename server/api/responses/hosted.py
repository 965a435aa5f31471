"""Tools that run where the model does, and items of a history that are theirs: there are none here.

Agents send these tools with every request. Beside functions they are left out, and named; where
nothing else could be called, they are refused. So are the items: what says something to a model is
told, what only a server could look up is left out.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tool_fields import HOSTED_TOOLS

LEFT_OUT_ITEMS = (
    *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
    *("mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response"),
    *("tool_search_call", "tool_search_output", "computer_call", "computer_call_output"),
    *("program", "program_output", "compaction"),
)
ItemId = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


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
    call_id: ItemId
    action: ShellAction
    id: ItemId | None = None
    status: Status | None = None

    @property
    def name(self) -> str:
        return "local_shell"

    @property
    def arguments(self) -> str:
        return json.dumps(self.action.model_dump(exclude_none=True, exclude={"type"}))


class ShellOutputItem(Strict):
    """Its call is named by `id`, or by `call_id`."""

    type: Literal["local_shell_call_output"]
    id: ItemId | None = None
    call_id: ItemId | None = None
    output: str
    status: Status | None = None
