"""Every field of `POST /v1/responses`: a table, as strict and closed as the others.

What chat knows too is checked by chat, which is what a request becomes (`routes.py`); here stands
what only this dialect has: items, `text.format`, flat tools, and what a server that stores nothing
must refuse.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.field_rules.unsupported_fields import Refusal
from thirdeye.server.api.openai.schema import MAX_MESSAGES
from thirdeye.server.api.reasoning.reasoning_fields import Effort
from thirdeye.server.api.requests import tool_fields
from thirdeye.server.api.requests.content_fields import (
    ASSISTANT_PARTS,
    TextPart,
    content_schema,
    parse_content,
)
from thirdeye.server.api.requests.fields import OnlyFalse
from thirdeye.server.api.requests.generation_fields import (
    MAX_LOGPROBS,
    AskedRequest,
    ForeignHints,
    LoggedFields,
    MaxTokens,
)
from thirdeye.server.api.requests.strict_model import MAX_INT, Strict
from thirdeye.server.api.requests.tagged_unions import kinds, of_kind
from thirdeye.server.api.requests.tool_fields import NAME_PATTERN, CalledName, FunctionName
from thirdeye.server.api.requests.value_readers import (
    array,
    closed_schema,
    fail,
    mapping,
    only,
    string,
)
from thirdeye.server.api.responses.custom_tools import CustomCallItem, CustomTool, as_functions
from thirdeye.server.api.responses.hosted import (
    LEFT_OUT_ITEMS,
    FunctionTool,
    HostedTool,
    LeftOutItem,
    ShellCallItem,
    ShellOutputItem,
)

ITEM_PARTS = {"input_text": TextPart()} | ASSISTANT_PARTS
ItemContent = Annotated[
    str,
    PlainValidator(lambda value, info: parse_content(value, ITEM_PARTS, info.context)),
    WithJsonSchema(content_schema(ITEM_PARTS)),
]
ItemId = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(Strict):
    """A turn. Answers come back as history with their id, status and phase."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer", "assistant"]
    content: ItemContent
    id: ItemId | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(Strict):
    type: Literal["function_call"]
    call_id: ItemId
    name: CalledName
    arguments: str
    id: ItemId | None = None
    status: Status | None = None


class CallOutputItem(Strict):
    type: Literal["function_call_output"]
    call_id: ItemId
    output: ItemContent
    id: ItemId | None = None
    status: Status | None = None


class SummaryPart(Strict):
    type: Literal["summary_text", "reasoning_text", "text"]
    text: str


class CustomOutputItem(Strict):
    type: Literal["custom_tool_call_output"]
    call_id: ItemId
    output: ItemContent
    id: ItemId | None = None
    status: Status | None = None


class ReasoningItem(Strict):
    """Thoughts of an earlier answer. What another model encrypted says nothing here."""

    type: Literal["reasoning"]
    id: ItemId | None = None
    summary: list[SummaryPart] = Field(default_factory=list, max_length=MAX_MESSAGES)
    content: list[SummaryPart] = Field(default_factory=list, max_length=MAX_MESSAGES)
    encrypted_content: str | None = None
    status: Status | None = None

    @property
    def text(self) -> str:
        return "\n\n".join(part.text for part in self.content or self.summary)


def _item_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else value.type
    return "<left_out>" if kind in LEFT_OUT_ITEMS else f"<{kind or 'message'}>"


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[CallOutputItem, Tag("<function_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")]
    | Annotated[CustomCallItem, Tag("<custom_tool_call>")]
    | Annotated[CustomOutputItem, Tag("<custom_tool_call_output>")]
    | Annotated[ShellCallItem, Tag("<local_shell_call>")]
    | Annotated[ShellOutputItem, Tag("<local_shell_call_output>")]
    | Annotated[LeftOutItem, Tag("<left_out>")],
    Discriminator(_item_tag),
    of_kind(
        *("message", "function_call", "function_call_output", "reasoning"),
        *("custom_tool_call", "custom_tool_call_output"),
        *("local_shell_call", "local_shell_call_output"),
        *LEFT_OUT_ITEMS,
        default="message",
        code="unsupported_value",
    ),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_items(value: object) -> object:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return array(value, wanted="a string or a list of items")


Input = Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=str | Items)]


class PlainFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    name: FunctionName
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


TextFormat = Annotated[
    Annotated[PlainFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    *kinds("text", "json_object", "json_schema"),
]


class TextConfig(Strict):
    format: TextFormat = PlainFormat(type="text")
    verbosity: Annotated[Literal["low", "medium", "high"] | None, Hint(("medium",))] = None


ToolMode = Literal["none", "auto", "required"]
_MODES: tuple[str, ...] = get_args(ToolMode)


def _tool_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else value.type
    return "<hosted>" if kind in tool_fields.HOSTED_TOOLS else f"<{kind}>"


Tool = Annotated[
    Annotated[FunctionTool, Tag("<function>")]
    | Annotated[CustomTool, Tag("<custom>")]
    | Annotated[HostedTool, Tag("<hosted>")],
    Discriminator(_tool_tag),
    of_kind("function", "custom", *tool_fields.HOSTED_TOOLS, code="unsupported_value"),
]


def callable_tools(tools: Sequence[Tool]) -> list[tuple[int, FunctionTool | CustomTool]]:
    """The tools that can be called here, with their places."""
    return [(i, tool) for i, tool in enumerate(tools) if not isinstance(tool, HostedTool)]


def parse_tool_choice(value: object, ignored: Ignored | None = None) -> str | dict[str, Any]:
    """A mode, the function to call, or those that may be called: as it was sent."""
    if isinstance(value, str):
        if value not in _MODES:
            fail("invalid_value", "must be 'none', 'auto', 'required' or a function.")
        return value
    choice = mapping(value, wanted="a string or an object")
    if choice.get("type") == "allowed_tools":
        tool_fields.parse_tool_choice(as_functions(choice), ignored)
        fields = choice.get("allowed_tools", choice)
        tools = [
            {"type": tool["type"], "name": tool.get("function", tool)["name"]}
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


class ResponseStreamOptions(Strict):
    include_obfuscation: OnlyFalse = False


class ReasoningConfig(Strict):
    """How hard to think. The summary of a thought is the thought, whatever is asked for."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


LOGPROBS = "message.output_text.logprobs"
Included = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]


_STATELESS = "this server stores nothing"
_VALUE = "unsupported_value"

REFUSED_IN_RESPONSES: dict[str, Refusal] = {
    "background": Refusal("answers are made while you wait, send false", (False,), _VALUE),
    "conversation": Refusal(f"{_STATELESS}, send the turns in 'input'"),
    "moderation": Refusal("this server moderates nothing"),
    "previous_response_id": Refusal(
        f"{_STATELESS}, send all turns in 'input', its answer's 'output' among them"
    ),
    "prompt": Refusal(f"{_STATELESS}, send the text in 'instructions' and 'input'"),
}


class ResponsesRequest(ForeignHints, LoggedFields, AskedRequest):
    refused = REFUSED_IN_RESPONSES

    input: Input
    instructions: str | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: MaxTokens = None

    # what the answer is, and what is shown of it
    text: TextConfig = TextConfig()
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = Field(None, ge=1, le=MAX_INT)
    include: Annotated[list[Included], Field(fail_fast=True)] = Field(default_factory=list)
    reasoning: ReasoningConfig | None = None
    top_logprobs: int = Field(0, ge=0, le=MAX_LOGPROBS)

    # hints: nothing is compacted, cut or kept here
    context_management: AnyHint = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Hint(("disabled",))] = None
