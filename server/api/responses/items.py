"""The items of an input: turns, calls, their results, thoughts."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from thirdeye.server.api.openai.schema import MAX_MESSAGES
from thirdeye.server.api.requests.content_fields import (
    ASSISTANT_PARTS,
    TextPart,
    content_schema,
    parse_content,
)
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import of_kind
from thirdeye.server.api.requests.tool_fields import Arguments, CalledName
from thirdeye.server.api.requests.value_readers import array
from thirdeye.server.api.responses.hosted import (
    CLIENT_ITEMS,
    LEFT_OUT_ITEMS,
    ItemId,
    LeftOutItem,
    PatchCallItem,
    PatchOutputItem,
    ShellCallItem,
    ShellOutputItem,
    ShellRunItem,
    ShellRunOutputItem,
    Status,
)

ITEM_PARTS = {"input_text": TextPart()} | ASSISTANT_PARTS
ItemContent = Annotated[
    str,
    PlainValidator(lambda value, info: parse_content(value, ITEM_PARTS, info.context)),
    WithJsonSchema(content_schema(ITEM_PARTS)),
]


class MessageItem(Strict):
    """A turn. Answers come back as history with their id, status and phase."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer", "assistant"]
    content: ItemContent
    id: ItemId | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class Called(Strict):
    """What calls of both kinds have, as they come back."""

    call_id: ItemId
    name: CalledName
    namespace: CalledName | None = None
    caller: Any = None  # on calls of answers that come back
    is_async: Any = Field(None, alias="async")
    id: ItemId | None = None
    status: Status | None = None


class CallItem(Called):
    type: Literal["function_call"]
    arguments: Arguments = "{}"


class CustomCallItem(Called):
    type: Literal["custom_tool_call"]
    input: str = ""


class CallOutput(Strict):
    """What results of both kinds have."""

    call_id: ItemId
    output: ItemContent
    id: ItemId | None = None
    status: Status | None = None
    name: str | None = None  # its call tells, as it does the rest
    namespace: str | None = None
    caller: Any = None


class CallOutputItem(CallOutput):
    type: Literal["function_call_output"]


class CustomOutputItem(CallOutput):
    type: Literal["custom_tool_call_output"]


class SummaryPart(Strict):
    type: Literal["summary_text", "reasoning_text", "text"]
    text: str


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
    | Annotated[ShellRunItem, Tag("<shell_call>")]
    | Annotated[ShellRunOutputItem, Tag("<shell_call_output>")]
    | Annotated[PatchCallItem, Tag("<apply_patch_call>")]
    | Annotated[PatchOutputItem, Tag("<apply_patch_call_output>")]
    | Annotated[LeftOutItem, Tag("<left_out>")],
    Discriminator(_item_tag),
    of_kind(
        *("message", "function_call", "function_call_output", "reasoning"),
        *("custom_tool_call", "custom_tool_call_output"),
        *CLIENT_ITEMS,
        *LEFT_OUT_ITEMS,
        default="message",
        code="unsupported_value",
        instead={
            "item_reference": "cannot be 'item_reference': this server stores nothing, send the "
            "item itself (programs do with 'store': false).",
        },
    ),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_items(value: object) -> object:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return array(value, wanted="a string or a list of items")


Input = Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=str | Items)]
