"""The requests of OpenAI's dialect, and of the routes beside it: a table of what only they have.

What needs more than one field, or the model, is checked where it is used.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from thirdeye.server.api.reasoning.reasoning_fields import ReasoningFields, TemplateKwargs
from thirdeye.server.api.reasoning.sent_thoughts import SentThoughts
from thirdeye.server.api.requests.content_fields import AssistantContent, Content
from thirdeye.server.api.requests.fields import Inputs, Prompts
from thirdeye.server.api.requests.generation_fields import (
    MAX_LOGPROBS,
    GenerationRequest,
    Hints,
    NumKept,
)
from thirdeye.server.api.requests.strict_model import MAX_INT, Strict, TokenId
from thirdeye.server.api.requests.tool_fields import CalledName, ToolChoiceField, Tools
from thirdeye.server.api.requests.value_readers import fail

MAX_MESSAGES = 4096
MAX_TOOL_CALLS = 128  # of one message


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
    name: CalledName
    arguments: str


class ToolCall(Strict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(SentThoughts):
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


class ChatRequest(ReasoningFields, Hints, GenerationRequest):
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
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    model: str | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
