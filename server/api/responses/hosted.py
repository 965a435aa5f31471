"""Tools that run where the model does, and items of a history that are theirs: there are none here.

Agents send these tools with every request. Beside functions they are left out, and named; where
nothing else could be called, they are refused. So are the items: what says something to a model is
told, what only a server could look up is left out.
"""

import json
from typing import Annotated, Any, Literal

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


class ShellCommands(Strict):
    commands: list[str] = Field(max_length=4096)
    timeout_ms: int | None = None
    max_output_length: int | None = None


class ShellRunItem(Strict):
    """Commands of OpenAI's later shell, which the caller ran where it is its own."""

    type: Literal["shell_call"]
    call_id: ItemId
    action: ShellCommands
    environment: Any = None
    caller: Any = None
    id: ItemId | None = None
    status: Status | None = None

    @property
    def name(self) -> str:
        return "shell"

    @property
    def arguments(self) -> str:
        return json.dumps(self.action.model_dump(exclude_none=True))


class ShellRun(Strict):
    stdout: str = ""
    stderr: str = ""
    outcome: dict[str, Any] | None = None


class ShellRunOutputItem(Strict):
    """What each command printed, and how it ended."""

    type: Literal["shell_call_output"]
    call_id: ItemId
    runs: list[ShellRun] = Field(alias="output", max_length=4096)
    max_output_length: int | None = None
    caller: Any = None
    id: ItemId | None = None
    status: Status | None = None

    @property
    def output(self) -> str:
        return json.dumps([run.model_dump(exclude_none=True) for run in self.runs])


class PatchOperation(Strict):
    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | None = None


class PatchCallItem(Strict):
    """A change of a file that the caller made."""

    type: Literal["apply_patch_call"]
    call_id: ItemId
    operation: PatchOperation
    caller: Any = None
    id: ItemId | None = None
    status: Status | None = None

    @property
    def name(self) -> str:
        return "apply_patch"

    @property
    def arguments(self) -> str:
        return json.dumps(self.operation.model_dump(exclude_none=True))


class PatchOutputItem(Strict):
    type: Literal["apply_patch_call_output"]
    call_id: ItemId
    said: str | None = Field(None, alias="output")
    status: Literal["completed", "failed"] = "completed"
    caller: Any = None
    id: ItemId | None = None

    @property
    def output(self) -> str:
        return self.said or self.status


ClientCall = ShellCallItem | ShellRunItem | PatchCallItem
CLIENT_ITEMS = (
    *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
    *("apply_patch_call", "apply_patch_call_output"),
)
