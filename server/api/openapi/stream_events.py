"""What the streams carry, as JSON schemas: the `data` of each event, in each dialect.

As open as the answers (`answer_schemas.py`), and for the same reason. A stream that fails has an
error in place of what it cannot say any more. The timeline's steps are described by their own
struct.
"""

from typing import Any

import msgspec

from thirdeye.server.api.http.documented import SCHEMAS, reference
from thirdeye.server.api.openapi.answer_schemas import (
    CHAT_LOGPROBS,
    COUNT,
    EXTRAS,
    HEAD,
    NULL,
    NUMBER,
    STRING,
    TEXT_LOGPROBS,
    TIMINGS,
    USAGE,
    Schema,
    choices_of,
    const,
    list_of,
    object_of,
    or_null,
)
from thirdeye.server.engine.interface.types import StepRecord

_ERROR = reference("Error")
_PROGRESS = object_of(index=COUNT, total=COUNT, cache=COUNT, processed=COUNT, time_ms=NUMBER)
_BESIDE = EXTRAS | {
    "usage": or_null(USAGE),
    "timings": TIMINGS,
    "prompt_progress": _PROGRESS,
    "service_tier": const("default"),
}
_CALL_DELTA = object_of(
    {"id": STRING, "type": const("function")},
    index=COUNT,
    function=object_of({"name": STRING}, arguments=STRING),
)
_DELTA = object_of(
    {
        "role": const("assistant"),
        "content": or_null(STRING),
        "refusal": NULL,
        "tool_calls": list_of(_CALL_DELTA),
    }
)
_CHUNK = object_of(
    _BESIDE,
    **HEAD,
    object=const("chat.completion.chunk"),
    choices=choices_of(
        delta=_DELTA,
        logprobs=or_null(CHAT_LOGPROBS),
        finish_reason=or_null(const("stop", "length", "tool_calls")),
    ),
)
_TEXT_CHUNK = object_of(
    _BESIDE,
    **HEAD,
    object=const("text_completion"),
    choices=choices_of(
        text=STRING,
        logprobs=or_null(TEXT_LOGPROBS),
        finish_reason=or_null(const("stop", "length")),
    ),
)
_RESPONSE_EVENTS = (
    *("response.created", "response.in_progress"),
    *("response.output_item.added", "response.output_item.done"),
    *("response.content_part.added", "response.content_part.done"),
    *("response.output_text.delta", "response.output_text.done"),
    *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
    *("response.completed", "response.incomplete", "response.failed"),
)
_MESSAGE_EVENTS = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "ping", "error"),
)
_INSPECTION_EVENTS = tuple(f"inspection.{kind}" for kind in ("start", "layer", "end"))

EVENTS: dict[str, Schema] = {
    "ChatCompletionChunk": {"anyOf": [_CHUNK, _ERROR]},
    "CompletionChunk": {"anyOf": [_TEXT_CHUNK, _ERROR]},
    "ResponseEvent": object_of(type=const(*_RESPONSE_EVENTS), sequence_number=COUNT),
    "MessageEvent": object_of(type=const(*_MESSAGE_EVENTS)),
    "InspectionEvent": {"anyOf": [object_of(object=const(*_INSPECTION_EVENTS)), _ERROR]},
}


def event_schemas() -> dict[str, Any]:
    """All of them by name, the timeline's among them."""
    _, steps = msgspec.json.schema_components([StepRecord], ref_template=SCHEMAS + "{name}")
    return EVENTS | steps
