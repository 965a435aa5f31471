"""Every field of Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`: a table, strict
and closed.

Content is a list of blocks, a string being one of them. What chat knows too is checked by chat,
which is what a request becomes (`thirdeye.server.api.anthropic.routes`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from thirdeye.server.api.anthropic.anthropic_tools import SentTool
from thirdeye.server.api.anthropic.cache_control import CacheControl, CacheHint
from thirdeye.server.api.anthropic.documents import DocumentBlock, SearchResultBlock
from thirdeye.server.api.anthropic.text_blocks import Text, TextBlock, as_blocks
from thirdeye.server.api.field_rules.hints import AnyHint
from thirdeye.server.api.field_rules.unsupported_fields import OF_ROUTERS, Refusal
from thirdeye.server.api.openai.schema import MAX_MESSAGES
from thirdeye.server.api.requests.fields import Stop
from thirdeye.server.api.requests.generation_fields import CommonHints
from thirdeye.server.api.requests.strict_model import Limit, LimitOrAny, Strict
from thirdeye.server.api.requests.tagged_unions import kinds, of_kind
from thirdeye.server.api.requests.tool_fields import MAX_TOOLS, CalledName, FunctionName

BlockId = Annotated[str, Field(min_length=1, max_length=256)]


class ToolUseBlock(Strict):
    type: Literal["tool_use"]
    id: BlockId
    name: CalledName
    input: dict[str, Any] = Field(default_factory=dict)
    cache_control: CacheHint = None
    caller: dict[str, Any] | None = None  # on blocks of answers that come back
    toolset_name: AnyHint = None


class ThinkingBlock(Strict):
    """A thought of an earlier answer. The signature says nothing here: it is not checked."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None
    cache_control: CacheControl | None = None


class RedactedThinkingBlock(Strict):
    """What another model encrypted."""

    type: Literal["redacted_thinking"]
    data: str
    cache_control: CacheControl | None = None


class ToolReference(Strict):
    """A tool that a search found. None is kept back here, so its name is all there is to tell."""

    type: Literal["tool_reference"]
    tool_name: CalledName
    cache_control: CacheHint = None

    @property
    def text(self) -> str:
        return self.tool_name


_READ = ("text", "document", "search_result")
_NOT_READ = {"image": "is an image: text is all it reads."}
Result = TextBlock | DocumentBlock | SearchResultBlock | ToolReference
Results = list[
    Annotated[
        Annotated[TextBlock, Tag("<text>")]
        | Annotated[DocumentBlock, Tag("<document>")]
        | Annotated[SearchResultBlock, Tag("<search_result>")]
        | Annotated[ToolReference, Tag("<tool_reference>")],
        *kinds(
            *(*_READ, "tool_reference"),
            code="unsupported_content",
            names_object=True,
            instead=_NOT_READ,
        ),
    ]
]


class ToolResultBlock(Strict):
    type: Literal["tool_result"]
    tool_use_id: BlockId
    content: Annotated[
        Results,
        Field(fail_fast=True),
        BeforeValidator(as_blocks, json_schema_input_type=str | Results),
    ] = Field(default_factory=list)
    is_error: bool = False
    cache_control: CacheHint = None
    toolset_name: AnyHint = None


UserBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[DocumentBlock, Tag("<document>")]
    | Annotated[SearchResultBlock, Tag("<search_result>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    *kinds(
        *(*_READ, "tool_result"),
        code="unsupported_content",
        names_object=True,
        instead=_NOT_READ,
    ),
]
_HOSTED_RESULTS = (
    *("web_search", "web_fetch", "code_execution", "bash_code_execution", "tool_search"),
    *("text_editor_code_execution", "advisor"),
)
LEFT_OUT_BLOCKS = (
    *("server_tool_use", "mcp_tool_use", "mcp_tool_result"),
    *(f"{name}_tool_result" for name in _HOSTED_RESULTS),
)


class LeftOutBlock(BaseModel):
    """What a tool of another server did or found. It is not looked at, and named."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(json_schema_extra={"enum": list(LEFT_OUT_BLOCKS)})


def _block_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else value.type
    return "<left_out>" if kind in LEFT_OUT_BLOCKS else f"<{kind}>"


AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
    | Annotated[LeftOutBlock, Tag("<left_out>")],
    Discriminator(_block_tag),
    of_kind(
        *("text", "tool_use", "thinking", "redacted_thinking", *LEFT_OUT_BLOCKS),
        code="unsupported_content",
        names_object=True,
    ),
]
UserBlocks = list[UserBlock]
AssistantBlocks = list[AssistantBlock]


class UserTurn(Strict):
    role: Literal["user"]
    content: Annotated[
        UserBlocks,
        Field(fail_fast=True),
        BeforeValidator(as_blocks, json_schema_input_type=str | UserBlocks),
    ]


class AssistantTurn(Strict):
    role: Literal["assistant"]
    content: Annotated[
        AssistantBlocks,
        Field(fail_fast=True),
        BeforeValidator(as_blocks, json_schema_input_type=str | AssistantBlocks),
    ]


class SystemTurn(Strict):
    role: Literal["system"]
    content: Text


Turn = Annotated[
    Annotated[UserTurn, Tag("<user>")]
    | Annotated[AssistantTurn, Tag("<assistant>")]
    | Annotated[SystemTurn, Tag("<system>")],
    *kinds("user", "assistant", "system", key="role"),
]


class AutoChoice(Strict):
    type: Literal["auto"]
    disable_parallel_tool_use: bool = False


class AnyChoice(Strict):
    type: Literal["any"]
    disable_parallel_tool_use: bool = False


class NamedChoice(Strict):
    type: Literal["tool"]
    name: FunctionName
    disable_parallel_tool_use: bool = False


class NoChoice(Strict):
    type: Literal["none"]


AnthropicToolChoice = Annotated[
    Annotated[AutoChoice, Tag("<auto>")]
    | Annotated[AnyChoice, Tag("<any>")]
    | Annotated[NamedChoice, Tag("<tool>")]
    | Annotated[NoChoice, Tag("<none>")],
    *kinds("auto", "any", "tool", "none"),
]


class JsonOutput(Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    format: JsonOutput | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    task_budget: AnyHint = None


class AnthropicThinking(Strict):
    """Without it thoughts are left out of the answer, as Anthropic has it."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Limit | None = None
    display: Literal["summarized", "omitted"] | None = None


class Metadata(Strict):
    user_id: str | None = Field(None, max_length=512)


REFUSED_IN_MESSAGES: dict[str, Refusal] = OF_ROUTERS | {
    "compaction": Refusal("ask for a summary in a message of yours"),
    "container": Refusal("no code runs on this server"),
    "mcp_servers": Refusal("this server connects to no other"),
    "output_format": Refusal("use 'output_config.format'"),
    "thread": Refusal("this server stores nothing, send all turns in 'messages'"),
}


class CountTokensRequest(CommonHints):
    """What makes the prompt, and hints; the rest of a request is in `MessagesRequest`."""

    names_model = True
    refused = REFUSED_IN_MESSAGES

    model: str | None = None
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: Text | None = None
    tools: list[SentTool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: AnthropicToolChoice | None = None
    output_config: OutputConfig | None = None
    thinking: AnthropicThinking | None = None
    diagnostics: AnyHint = None
    billing_policy: AnyHint = None
    fallback_credit_token: AnyHint = None
    fallbacks: AnyHint = None
    user_profile_id: AnyHint = None
    inference_geo: AnyHint = None
    speed: AnyHint = None
    cache_control: CacheHint = None


class MessagesRequest(CountTokensRequest):
    max_tokens: Limit
    stream: bool = False
    stop_sequences: Stop = ()
    temperature: float = Field(1.0, ge=0, le=1)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: LimitOrAny = 0

    metadata: Metadata | None = None
