"""The requests of OpenAI's dialect, and of the routes beside it: a table of what only they have.

What needs more than one field, or the model, is checked where it is used.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, Tag, model_validator

from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.field_rules.other_names import (
    OTHER_NAMES_IN_CHAT,
    OTHER_NAMES_IN_COMPLETIONS,
)
from thirdeye.server.api.field_rules.unsupported_fields import (
    REFUSED_IN_CHAT,
    REFUSED_IN_COMPLETIONS,
    REFUSED_IN_EMBEDDINGS,
)
from thirdeye.server.api.openai.tools.function_fields import FunctionChoice, Functions
from thirdeye.server.api.reasoning.reasoning_fields import ReasoningFields, TemplateKwargs
from thirdeye.server.api.reasoning.sent_thoughts import SentThoughts
from thirdeye.server.api.requests.content_fields import AssistantContent, Content
from thirdeye.server.api.requests.fields import Inputs, Prompts, Truncate
from thirdeye.server.api.requests.generation_fields import (
    MAX_LOGPROBS,
    CommonHints,
    GenerationRequest,
    MaxTokens,
    MaxTokensOrNone,
    NumKept,
)
from thirdeye.server.api.requests.strict_model import MAX_INT, Limit, Strict, TokenId
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.tool_fields import Arguments, CalledName, ToolChoiceField, Tools
from thirdeye.server.text.tools.text_inputs import input_as_arguments

MAX_MESSAGES = 4096
MAX_TOOL_CALLS = 128  # of one message
MODEL_WIDTH: dict[str, JsonValue] = {"format": "model-width"}  # the served model's is shown


class CompletionRequest(GenerationRequest):
    refused = REFUSED_IN_COMPLETIONS
    other_names = OTHER_NAMES_IN_COMPLETIONS

    prompt: Prompts
    max_tokens: MaxTokensOrNone = 16
    best_of: int | None = Field(None, ge=1, le=MAX_INT)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: bool = True


class EmbeddingRequest(CommonHints):
    names_model = True
    refused = REFUSED_IN_EMBEDDINGS

    model: str | None = None
    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    dimensions: int | None = Field(None, ge=1, le=MAX_INT, json_schema_extra=MODEL_WIDTH)
    add_special_tokens: bool = True
    truncate: Truncate = False
    truncate_prompt_tokens: NumKept | None = None
    priority: int = Field(0, ge=-(2**31), le=MAX_INT)
    input_type: Annotated[str | None, Hint()] = None


_OF_SOME_ROLE = frozenset(
    {
        *("audio", "annotations", "function_call", "phase", "prefix", "refusal", "tool_calls"),
        *("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"),
        "tool_call_id",
    }
)


class SentMessage(Strict):
    """What a message of any role may have: programs send their own marks along."""

    name: str | None = None
    cache_control: AnyHint = None
    id: AnyHint = None
    timestamp: AnyHint = None
    provider_specific_fields: AnyHint = None

    @model_validator(mode="before")
    @classmethod
    def _other_roles_nulls(cls, value: Any) -> Any:
        """Programs with one class for all roles send its whole: what another role has is null."""
        if not isinstance(value, dict):
            return value
        return {
            name: item
            for name, item in value.items()
            if item is not None or name in cls.model_fields or name not in _OF_SOME_ROLE
        }


class SystemMessage(SentMessage):
    role: Literal["system", "developer"]
    content: Content


class UserMessage(SentMessage):
    role: Literal["user"]
    content: Content


class CalledFunction(Strict):
    """Without arguments it is called with none."""

    name: CalledName
    arguments: Arguments = "{}"


class ToolCall(Strict):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None  # of deltas that were put together and come back
    extra_content: AnyHint = None
    provider_specific_fields: AnyHint = None


class CalledCustomTool(Strict):
    name: CalledName
    input: str = ""


class CustomCall(Strict):
    id: str
    type: Literal["custom"]
    custom: CalledCustomTool
    index: int | None = None
    extra_content: AnyHint = None
    provider_specific_fields: AnyHint = None

    def as_function_call(self) -> ToolCall:
        """As a model has it."""
        arguments = input_as_arguments(self.custom.input)
        function = CalledFunction(name=self.custom.name, arguments=arguments)
        return ToolCall(id=self.id, function=function, index=self.index)


SentCall = Annotated[
    Annotated[ToolCall, Tag("<function>")] | Annotated[CustomCall, Tag("<custom>")],
    *kinds("function", "custom", default="function"),
]


class AssistantMessage(SentThoughts, SentMessage):
    """Clients send answers back as history, so what an answer holds beside its text is accepted.
    Without content and calls it is an empty answer."""

    role: Literal["assistant"]
    content: AssistantContent = None
    refusal: str | None = None
    annotations: list[object] | None = None
    phase: str | None = None
    prefix: bool = False  # of the last message: the answer goes on with it
    partial: bool = False  # Moonshot's and Qwen's word for that
    audio: None = None
    function_call: CalledFunction | None = None  # the older form of one call
    tool_calls: list[SentCall] = Field(default_factory=list, max_length=MAX_TOOL_CALLS)


class FunctionMessage(SentMessage):
    """What a function answered: the older form of a tool's result."""

    role: Literal["function"]
    name: str
    content: Content = ""


class ToolMessage(SentMessage):
    """What a tool answered; nothing is an answer too."""

    role: Literal["tool"]
    content: Content = ""
    tool_call_id: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class ChatRequest(ReasoningFields, GenerationRequest):
    refused = REFUSED_IN_CHAT
    other_names = OTHER_NAMES_IN_CHAT

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Tools = ()
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool = True
    max_tool_calls: Limit | None = None
    functions: Functions = ()
    function_call: FunctionChoice | None = None


class TokenizeRequest(Strict):
    """`prompt` or `messages`; vLLM's shape, where `model` may be left out."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None  # true for a prompt, false for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Tools = ()
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    model: str | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
