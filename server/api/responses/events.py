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
from uuid import uuid4

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.http.sse import event_frame
from thirdeye.server.api.openai.logprob_lists import chat_logprobs
from thirdeye.server.api.openai.tool_calls import new_call_id
from thirdeye.server.api.responses.custom_tools import CustomCallWriter, CustomTool
from thirdeye.server.api.responses.hosted import FunctionTool
from thirdeye.server.api.responses.schema import (
    LOGPROBS,
    JsonSchemaFormat,
    ResponsesRequest,
    TextFormat,
    callable_tools,
)
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.errors import ApiError
from thirdeye.server.text.events import TextEvent, TextToken, ToolCallDelta
from thirdeye.server.text.tokenizer import TokenizerLike

Event = tuple[str, JsonObject]  # its type, and what it says besides


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
        self._custom = {tool.name for tool in body.tools if isinstance(tool, CustomTool)}
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
            writer = CustomCallWriter if delta.name in self._custom else CallWriter
            self._open = writer(len(self._output), delta.name, delta.call_id)
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


class MessageWriter:
    """An output item that is text, from its first character to its last."""

    def __init__(self, output_index: int, tokenizer: TokenizerLike | None) -> None:
        """`tokenizer` names the tokens of logprobs; None if nobody asked for them."""
        self._id = f"msg_{uuid4().hex}"
        self._place: JsonObject = {"item_id": self._id, "output_index": output_index}
        self._output_index = output_index
        self._tokenizer = tokenizer
        self._texts: list[str] = []
        self._logprobs: list[object] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress") | {"content": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield "response.content_part.added", self._at_part(part=self._part())

    def delta(self, text: str, tokens: Iterable[TextToken]) -> Iterator[Event]:
        logprobs = self._scored(text, tokens)
        self._texts.append(text)
        self._logprobs += logprobs
        yield "response.output_text.delta", self._at_part(delta=text, logprobs=logprobs)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part()
        done = self._at_part(text=part["text"], logprobs=self._logprobs)
        yield "response.output_text.done", done
        yield "response.content_part.done", self._at_part(part=part)
        item = self.item(status)
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {
            "type": "message",
            "id": self._id,
            "status": status,
            "role": "assistant",
            "content": [self._part()],
        }

    def _part(self) -> JsonObject:
        return {
            "type": "output_text",
            "text": "".join(self._texts),
            "annotations": [],
            "logprobs": self._logprobs,
        }

    def _at_part(self, **fields: object) -> JsonObject:
        return {**self._place, "content_index": 0, **fields}

    def _scored(self, text: str, tokens: Iterable[TextToken]) -> list[object]:
        """The logprobs of the text's tokens; what ends it or begins a call is none of them."""
        if self._tokenizer is None:
            return []
        return [*chat_logprobs(_tokens_of(text, tokens), self._tokenizer).content]


def _tokens_of(text: str, tokens: Iterable[TextToken]) -> list[TextToken]:
    """The shown tokens up to the one that completes the text."""
    shown: list[TextToken] = []
    rest = len(text.encode())
    for token in tokens:
        if token.raw is not None and rest > 0:
            shown.append(token)
            rest -= len(token.raw)
    return shown


class ReasoningWriter:
    """An output item that is what the model thought: its summary is all of it."""

    def __init__(self, output_index: int) -> None:
        self._id = f"rs_{uuid4().hex}"
        self._output_index = output_index
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress") | {"summary": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield "response.reasoning_summary_part.added", self._at_part(part=self._part())

    def delta(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield "response.reasoning_summary_text.delta", self._at_part(delta=text)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part()
        yield "response.reasoning_summary_text.done", self._at_part(text=part["text"])
        yield "response.reasoning_summary_part.done", self._at_part(part=part)
        item = self.item(status)
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {"type": "reasoning", "id": self._id, "summary": [self._part()], "status": status}

    def _part(self) -> JsonObject:
        return {"type": "summary_text", "text": "".join(self._texts)}

    def _at_part(self, **fields: object) -> JsonObject:
        place = {"item_id": self._id, "output_index": self._output_index, "summary_index": 0}
        return {**place, **fields}


class CallWriter:
    """An output item that is the call of a function."""

    def __init__(self, output_index: int, name: str, call_id: str) -> None:
        self._id = f"fc_{uuid4().hex}"
        self._call_id = call_id or new_call_id()
        self._name = name
        self._output_index = output_index
        self._place: JsonObject = {"item_id": self._id, "output_index": output_index}
        self._arguments: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress")
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}

    def delta(self, arguments: str) -> Iterator[Event]:
        self._arguments.append(arguments)
        yield "response.function_call_arguments.delta", {**self._place, "delta": arguments}

    def end(self, status: str) -> Iterator[Event]:
        item = self.item(status)
        done = {**self._place, "name": self._name, "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", done
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {
            "type": "function_call",
            "id": self._id,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
            "status": status,
        }


def empty_response(
    body: ResponsesRequest, generation: Generation, model: ServedModel
) -> JsonObject:
    """Every key of a response that has just begun, the request's own among them."""
    sampling = generation.requests[0].sampling  # what the model suggests shows here, too
    return {
        "id": generation.id,
        "object": "response",
        "created_at": generation.created,
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": generation.model,
        "system_fingerprint": model.fingerprint,
        "previous_response_id": None,
        "instructions": body.instructions,
        "output": [],
        "error": None,
        "tools": [_tool(tool) for _, tool in callable_tools(body.tools)],
        "tool_choice": body.tool_choice,
        "truncation": "disabled",
        "parallel_tool_calls": body.parallel_tool_calls,
        "text": {"format": _format(body.text.format), "verbosity": "medium"},
        "top_p": sampling.top_p,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "top_logprobs": body.top_logprobs,
        "temperature": sampling.temperature,
        "reasoning": _reasoning(body),
        "usage": None,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": body.metadata,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
    }


def _reasoning(body: ResponsesRequest) -> JsonObject:
    effort = body.reasoning.effort if body.reasoning else None
    summary = body.reasoning.summary if body.reasoning else None
    return {"effort": effort, "summary": summary}


def _tool(tool: FunctionTool | CustomTool) -> JsonObject:
    return tool.model_dump(exclude_none=isinstance(tool, CustomTool))


def _format(wanted: TextFormat) -> JsonObject:
    if not isinstance(wanted, JsonSchemaFormat):
        return {"type": wanted.type}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "description": wanted.description or "",  # one schema wants the key, the other a string
        "schema": wanted.schema_,
        "strict": bool(wanted.strict),
    }


def usage_of(tally: Tally) -> JsonObject:
    prompt, generated = tally.num_prompt_tokens, tally.num_generated_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": tally.num_cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": tally.num_thought_tokens},
        "total_tokens": prompt + generated,
    }
