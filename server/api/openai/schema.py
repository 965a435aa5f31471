"""Every field a request may have, with its type, range and default: a table.

Strict (no coercion, no NaN), closed (an unknown field is an error), and `null` means "not given".
What needs more than one field, or the model, is checked where it is used.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from thirdeye.server.api.requests.fields import (
    AssistantContent,
    Content,
    Inputs,
    LogitBias,
    OnlyFalse,
    Prompts,
    Stop,
)
from thirdeye.server.api.requests.response_formats import ResponseFormat, StructuredOutputs
from thirdeye.server.api.requests.tool_fields import ToolChoiceField, Tools
from thirdeye.server.api.requests.value_readers import fail
from thirdeye.server.text.tools.definitions import MAX_NAME_CHARS

MAX_N = 128
MAX_LOGPROBS = 20
MAX_MESSAGES = 4096
MAX_METADATA = 16
MAX_TOOL_CALLS = 128  # of one message
MAX_INT = 2**31 - 1


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        """And unknown fields are, where the context is a set that takes their names; else the first
        of them is kept, to be refused: a body may hold a hundred thousand, each an error."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in value if name not in known]
        if info.context is not None:
            info.context.update(unknown)
        elif unknown:
            known.add(unknown[0])
        return {k: v for k, v in value.items() if k in known and (v is not None or k in unknown)}


class StreamOptions(Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: OnlyFalse = False


def _few(value: object) -> object:
    """Counted before a look is taken at each."""
    if isinstance(value, dict) and len(value) > MAX_METADATA:
        rule = f"must hold at most {MAX_METADATA} items, got {len(value)}."
        fail("object_above_max_properties", rule)
    return value


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, le=MAX_INT, json_schema_extra={"format": "token-id"})]


NumKept = Annotated[  # of a prompt's tokens; -1: as many as fit
    int, Field(ge=-1, le=MAX_INT, json_schema_extra={"not": {"const": 0}})
]


class AskedRequest(Strict):
    """What every request for an answer has in OpenAI's dialects: how the next token is chosen, and
    when it ends."""

    model: str
    stop: Stop = ()
    ignore_eos: bool = False
    stream: bool = False
    user: str | None = None
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1, le=MAX_INT)
    min_p: float = Field(0.0, ge=0, le=1)
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, gt=0)


class Hints(Strict):
    """Accepted, checked, and without effect but in the log."""

    metadata: Annotated[dict[MetadataKey, MetadataValue], BeforeValidator(_few)] = Field(
        default_factory=dict, max_length=MAX_METADATA
    )
    safety_identifier: str | None = Field(None, max_length=64)
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: dict[str, object] | None = None
    service_tier: Literal["auto", "default"] | None = None


class GenerationRequest(AskedRequest):
    """What chat and completions share."""

    n: int = Field(1, ge=1, le=MAX_N)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias = Field(default_factory=dict)

    # what the answer has to look like
    response_format: ResponseFormat = None
    structured_outputs: StructuredOutputs | None = None

    # when it ends, and what is shown
    stop_token_ids: list[TokenId] = Field(default_factory=list, max_length=64)
    min_tokens: int = Field(0, ge=0, le=MAX_INT)
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    receipt: bool = False
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    t_max_predict_ms: int = Field(0, ge=0, le=MAX_INT)
    return_progress: bool = False

    # how it is queued and cached
    truncate_prompt_tokens: NumKept | None = None
    priority: int = Field(0, ge=-(2**31), le=MAX_INT)
    cache_salt: str | None = Field(None, min_length=1, max_length=1024)


class CompletionRequest(GenerationRequest):
    prompt: Prompts
    max_tokens: int = Field(16, ge=0, le=MAX_INT)
    best_of: int | None = Field(None, ge=1, le=MAX_INT)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: bool = True


class EmbeddingRequest(Strict):
    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    add_special_tokens: bool = True
    truncate_prompt_tokens: NumKept | None = None
    priority: int = Field(0, ge=-(2**31), le=MAX_INT)


class SystemMessage(Strict):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Content
    name: str | None = None


class CalledFunction(Strict):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    arguments: str


class ToolCall(Strict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Strict):
    """Clients send answers back as history, so what an answer holds beside its text is accepted.

    Only with `tool_calls` may `content` be null or left out.
    """

    role: Literal["assistant"]
    content: AssistantContent = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[object] | None = None
    phase: str | None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[ToolCall] = Field(default_factory=list, max_length=MAX_TOOL_CALLS)

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            fail("missing_required_parameter", "is required without 'tool_calls'.", ".content")
        return self


class ToolMessage(Strict):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class ChatRequest(Hints, GenerationRequest):
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=1, le=MAX_INT)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_INT)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Tools = ()
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool = True


class TokenizeRequest(Strict):
    """`prompt` or `messages`; vLLM's shape, where `model` may be left out."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None  # true for a prompt, false for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Tools = ()
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    model: str | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
