"""What the streams carry, as JSON schemas: the `data` of each event, in each dialect.

As open as the answers (`answer_schemas.py`), and for the same reason. A stream that fails has an
error in place of what it cannot say any more. The timeline's steps are described by their own
struct.
"""

from typing import Any

import msgspec
from msgspec import Struct

from thirdeye.server.api.http.documented import SCHEMAS, reference
from thirdeye.server.api.http.error_envelope import OllamaError
from thirdeye.server.api.introspection.inspection import (
    InspectionEnd,
    InspectionLayer,
    InspectionStart,
    InspectionSweep,
)
from thirdeye.server.api.ollama.answers import OllamaChatAnswer, OllamaTextAnswer
from thirdeye.server.api.openai.chat_format import ChatChunk
from thirdeye.server.api.openai.completion_format import TextChunk
from thirdeye.server.api.openai.stream_chunks import Head
from thirdeye.server.api.openapi.answer_schemas import COUNT, Schema, const, object_of
from thirdeye.server.engine.interface.step_record import StepRecord

_ERROR = reference("Error")
_OLLAMA_ERROR = reference(OllamaError.__name__)


def _chunk(kind: str, news: type[Struct]) -> Schema:
    """A chunk is encoded in two pieces: the head, which never changes, and what is new."""
    named = {"properties": {"object": const(kind)}}
    return {"allOf": [reference(Head.__name__), reference(news.__name__), named]}


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
_INSPECTION_EVENTS = (InspectionStart, InspectionLayer, InspectionSweep, InspectionEnd)

EVENTS: dict[str, Schema] = {
    "ChatCompletionChunk": {"anyOf": [_chunk("chat.completion.chunk", ChatChunk), _ERROR]},
    "CompletionChunk": {"anyOf": [_chunk("text_completion", TextChunk), _ERROR]},
    "ResponseEvent": object_of(type=const(*_RESPONSE_EVENTS), sequence_number=COUNT),
    "MessageEvent": object_of(type=const(*_MESSAGE_EVENTS)),
    "OllamaChatLine": {"anyOf": [reference(OllamaChatAnswer.__name__), _OLLAMA_ERROR]},
    "OllamaTextLine": {"anyOf": [reference(OllamaTextAnswer.__name__), _OLLAMA_ERROR]},
    "InspectionEvent": {
        "anyOf": [*(reference(event.__name__) for event in _INSPECTION_EVENTS), _ERROR]
    },
}


def event_schemas() -> dict[str, Any]:
    """All of them by name, the timeline's among them."""
    _, steps = msgspec.json.schema_components([StepRecord], ref_template=SCHEMAS + "{name}")
    return EVENTS | steps
