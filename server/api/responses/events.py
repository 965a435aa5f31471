"""An answer as `POST /v1/responses` has it: a response with output items, whole or as typed events.

    response.created  response.in_progress
        response.output_item.added
            of thoughts response.reasoning_summary_part.added
                        response.reasoning_summary_text.delta ...
                        response.reasoning_summary_text.done
                        response.reasoning_summary_part.done
            of text     response.content_part.added  response.output_text.delta ...
                        response.output_text.done  response.content_part.done
            of a call   response.function_call_arguments.delta ...
                        response.function_call_arguments.done
            of a custom one
                        response.custom_tool_call_input.delta ...
                        response.custom_tool_call_input.done
        response.output_item.done
    response.completed | response.incomplete | response.failed

One state machine makes the events and, on the way, the response that the last one carries: that
response is the answer that is not streamed.
"""

from collections.abc import Iterable, Iterator, Sequence

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.http.sse import event_frame
from thirdeye.server.api.responses.custom_calls import CustomCallWriter
from thirdeye.server.api.responses.custom_tools import CustomTool
from thirdeye.server.api.responses.offered_tools import ToolAddress, offered_tools
from thirdeye.server.api.responses.output_items import (
    CallWriter,
    Event,
    MessageWriter,
    ReasoningWriter,
)
from thirdeye.server.api.responses.response_object import empty_response, usage_of
from thirdeye.server.api.responses.schema import LOGPROBS, ResponsesRequest
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.errors import ApiError
from thirdeye.server.text.events import TextEvent, ToolCallDelta


class ResponsesFormat:
    """The `AnswerFormat` of one request: its response, as it grows. A chunk is an event."""

    def __init__(
        self, body: ResponsesRequest, generation: Generation, model: ServedModel, tally: Tally
    ) -> None:
        self._tally = tally
        self._number = 0
        self._is_begun = False
        self._output: list[JsonObject] = []
        # the item that grows
        self._open: MessageWriter | CallWriter | CustomCallWriter | ReasoningWriter | None = None
        self._tools = {tool.address.joined: tool for tool in offered_tools(body.tools)}
        self._tokenizer = model.tokenizer if LOGPROBS in body.include else None
        self._response = empty_response(body, generation, model)

    def chunks(self, index: int, event: TextEvent) -> Iterator[Event]:
        assert index == 0, "a request has one response"
        if not self._is_begun:
            yield from self._begin()
        if event.thought:
            yield from self._thought(event.thought)
        if event.text:
            yield from self._text(event)
        for delta in event.tool_calls:
            yield from self._call(delta)
        if event.finish_reason is not None:
            yield from self._end(event.finish_reason)

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        return map(self._frame, self.chunks(index, event))

    def last_frames(self) -> Iterable[bytes]:
        return ()

    def whole(self, chunks: Sequence[Event]) -> object:
        _, fields = chunks[-1]
        return fields["response"]

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that cannot be finished."""
        return b"".join(map(self._frame, self._fail(error)))

    def _frame(self, event: Event) -> bytes:
        kind, fields = event
        data = encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return event_frame(kind, data)

    def _fail(self, error: ApiError) -> Iterator[Event]:
        if not self._is_begun:
            yield from self._begin()
        self._response["status"] = "failed"
        self._response["error"] = {"code": "server_error", "message": error.message}
        yield "response.failed", self._snapshot()

    def _begin(self) -> Iterator[Event]:
        self._is_begun = True
        yield "response.created", self._snapshot()
        yield "response.in_progress", self._snapshot()

    def _thought(self, text: str) -> Iterator[Event]:
        if not isinstance(self._open, ReasoningWriter):
            yield from self._close("completed")
            self._open = ReasoningWriter(len(self._output))
            yield from self._open.begin()
        yield from self._open.delta(text)

    def _text(self, event: TextEvent) -> Iterator[Event]:
        if not isinstance(self._open, MessageWriter):
            yield from self._close("completed")
            self._open = MessageWriter(len(self._output), self._tokenizer)
            yield from self._open.begin()
        yield from self._open.delta(event.text, [t for t in event.tokens if not t.is_thought])

    def _call(self, delta: ToolCallDelta) -> Iterator[Event]:
        if delta.name is not None:
            yield from self._close("completed")
            called = self._tools.get(delta.name)
            is_custom = called is not None and isinstance(called.tool, CustomTool)
            writer = CustomCallWriter if is_custom else CallWriter
            address = called.address if called else ToolAddress(delta.name)
            self._open = writer(len(self._output), address, delta.call_id)
            yield from self._open.begin()
        assert isinstance(self._open, CallWriter | CustomCallWriter), "a call begins with its name"
        if delta.arguments:
            yield from self._open.delta(delta.arguments)

    def _close(self, status: str) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.end(status)
            self._output.append(self._open.item(status))
            self._open = None

    def _end(self, reason: FinishReason) -> Iterator[Event]:
        status = "incomplete" if reason is FinishReason.LENGTH else "completed"
        if self._open is None and not self._output:
            self._open = MessageWriter(0, self._tokenizer)
            yield from self._open.begin()
        yield from self._close(status)
        self._response["status"] = status
        if status == "incomplete":
            self._response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self._response["completed_at"] = unix_seconds()
        self._response["usage"] = usage_of(self._tally)
        self._response["timings"] = self._tally.timings()
        yield f"response.{status}", self._snapshot()

    def _snapshot(self) -> JsonObject:
        self._response["output"] = list(self._output)
        return {"response": self._response}
