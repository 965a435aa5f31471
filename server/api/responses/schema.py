"""Every field of `POST /v1/responses`: a table, as strict and closed as the others.

What chat knows too is checked by chat, which is what a request becomes (`into_chat.py`). What only
this dialect has: `items.py`, `offered_tools.py`, and here `text.format` and what a server that
stores nothing must refuse.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from thirdeye.server.api.field_rules.hints import AnyHint, Hint
from thirdeye.server.api.field_rules.unsupported_fields import OF_ROUTERS, Refusal
from thirdeye.server.api.reasoning.reasoning_fields import Effort
from thirdeye.server.api.requests.generation_fields import (
    MAX_LOGPROBS,
    AskedRequest,
    ForeignHints,
    LoggedFields,
    MaxTokens,
)
from thirdeye.server.api.requests.strict_model import Limit, Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.responses.items import Input
from thirdeye.server.api.responses.offered_tools import Tool
from thirdeye.server.api.responses.tool_choices import ToolChoice

_FORMAT_NAME = "^[a-zA-Z0-9_-]{0,64}$"  # an empty one is none


class PlainFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    name: Annotated[str, Field(json_schema_extra={"pattern": _FORMAT_NAME})]  # chat reads it
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


class ResponseStreamOptions(Strict):
    include_obfuscation: Annotated[bool, Hint((False,))] = False


class ReasoningConfig(Strict):
    """How hard to think. The summary of a thought is the thought, whatever is asked for."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Annotated[Literal["auto", "current_turn", "all_turns"] | None, Hint(("auto",))] = None
    mode: Annotated[str | None, Hint(("standard",))] = None


LOGPROBS = "message.output_text.logprobs"
INCLUDED = (LOGPROBS, "reasoning.encrypted_content")  # what answers can have
Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    # of calls and parts that no answer has
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
]


_STATELESS = "this server stores nothing"
_VALUE = "unsupported_value"

REFUSED_IN_RESPONSES: dict[str, Refusal] = OF_ROUTERS | {
    "background_options": Refusal("counts beside `background` alone", beside="background"),
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
    max_tool_calls: Limit | None = None
    include: Annotated[list[Included], Field(fail_fast=True)] = Field(default_factory=list)
    reasoning: ReasoningConfig | None = None
    top_logprobs: int = Field(0, ge=0, le=MAX_LOGPROBS)

    # hints
    access_programs: AnyHint = None
    image: AnyHint = None
