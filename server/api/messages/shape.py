"""An answer as Anthropic's `POST /v1/messages` has it: a message of content blocks, whole or as
events.

    message_start
        content_block_start  content_block_delta ...  content_block_stop      text, or a tool's use
    message_delta  message_stop

One state machine makes the events and, on the way, the message; an answer that is not streamed runs
through it too and keeps the message alone. A silent stream gets `ping` events, a failed one an
`error` event and no end.
"""

from collections import deque
from collections.abc import Iterator
from uuid import uuid4

from msgspec import DecodeError
from msgspec.json import Decoder

from server.api.envelope import anthropic_error
from server.api.generation import Generation
from server.api.shape import JsonObject, encode
from server.api.stream import Framing, event_frame
from server.api.tally import Tally
from server.engine.types import FinishReason
from server.text.events import TextEvent, ToolCallDelta

decode = Decoder(JsonObject).decode

Event = tuple[str, JsonObject]  # its type, and what it says besides


def framing_of(request_id: str) -> Framing:
    return Framing(
        frame=bytes,
        error=lambda error: event_frame("error", encode(anthropic_error(error, request_id))),
        keepalive=event_frame("ping", b'{"type":"ping"}'),
        end=b"",
    )


class MessageShape:
    """One request's message, as it grows."""

    def __init__(self, generation: Generation, tally: Tally) -> None:
        self._tally = tally
        self._is_begun = False
        self._content: list[JsonObject] = []
        self._open: OpenBlock | None = None  # the block that grows
        self._message = empty_message(generation)

    def chunks(self, index: int, event: TextEvent) -> Iterator[bytes]:
        assert index == 0, "a request has one message"
        for kind, fields in self._events(event):
            yield event_frame(kind, encode({"type": kind, **fields}))

    def last_chunks(self) -> Iterator[bytes]:
        return iter(())

    def add(self, index: int, event: TextEvent) -> None:
        assert index == 0, "a request has one message"
        deque(self._events(event), maxlen=0)

    def whole(self) -> JsonObject:
        return self._message

    def _events(self, event: TextEvent) -> Iterator[Event]:
        if not self._is_begun:
            self._is_begun = True
            self._message["usage"] = usage_of(self._tally)
            yield "message_start", {"message": self._message}
        if event.text:
            yield from self._text(event.text)
        for delta in event.tool_calls:
            yield from self._call(delta)
        if event.finish_reason is not None:
            yield from self._end(event)

    def _text(self, text: str) -> Iterator[Event]:
        if not isinstance(self._open, OpenText):
            yield from self._begin(OpenText())
        yield from self._add(text)

    def _call(self, delta: ToolCallDelta) -> Iterator[Event]:
        if delta.name is not None:
            yield from self._begin(OpenToolUse(delta.name))
        if delta.arguments:
            yield from self._add(delta.arguments)

    def _begin(self, block: "OpenBlock") -> Iterator[Event]:
        yield from self._close()
        self._open = block
        yield "content_block_start", self._at_block(content_block=block.empty())

    def _add(self, piece: str) -> Iterator[Event]:
        assert self._open is not None, "a call begins with its name"
        yield "content_block_delta", self._at_block(delta=self._open.delta(piece))

    def _close(self) -> Iterator[Event]:
        if self._open is not None:
            yield "content_block_stop", self._at_block()
            self._content.append(self._open.whole())
            self._open = None

    def _at_block(self, **fields: object) -> JsonObject:
        return {"index": len(self._content), **fields}

    def _end(self, event: TextEvent) -> Iterator[Event]:
        if self._open is None and not self._content:
            yield from self._begin(OpenText())
        yield from self._close()
        ending = ending_of(event)
        usage = usage_of(self._tally)
        timings = {"timings": self._tally.timings()}
        self._message |= {"content": self._content, **ending, "usage": usage, **timings}
        yield "message_delta", {"delta": {**ending, "container": None}, "usage": usage, **timings}
        yield "message_stop", {}


class OpenText:
    def __init__(self) -> None:
        self._pieces: list[str] = []

    def empty(self) -> JsonObject:
        return {"type": "text", "text": "", "citations": None}

    def delta(self, piece: str) -> JsonObject:
        self._pieces.append(piece)
        return {"type": "text_delta", "text": piece}

    def whole(self) -> JsonObject:
        return self.empty() | {"text": "".join(self._pieces)}


class OpenToolUse:
    def __init__(self, name: str) -> None:
        self._head = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": name}
        self._pieces: list[str] = []

    def empty(self) -> JsonObject:
        return {**self._head, "input": {}, "caller": {"type": "direct"}}

    def delta(self, piece: str) -> JsonObject:
        self._pieces.append(piece)
        return {"type": "input_json_delta", "partial_json": piece}

    def whole(self) -> JsonObject:
        """With the input as an object: an empty one if the end of the answer cut its JSON."""
        try:
            given = decode("".join(self._pieces))
        except DecodeError:
            given = {}
        return self.empty() | {"input": given}


OpenBlock = OpenText | OpenToolUse


def ending_of(event: TextEvent) -> JsonObject:
    """Why the message ended. A stop token is no sequence that the caller named."""
    matched = event.stop_reason if isinstance(event.stop_reason, str) else None
    if event.finish_reason is FinishReason.LENGTH:
        reason = "max_tokens"
    elif event.ended_in_tool_calls:
        reason = "tool_use"
    else:
        reason = "end_turn" if matched is None else "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": matched, "stop_details": None}


def empty_message(generation: Generation) -> JsonObject:
    """Every key of a message that has just begun."""
    return {
        "id": generation.id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": generation.model,
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": None,
    }


def usage_of(tally: Tally) -> JsonObject:
    """Anthropic counts the prompt's cached tokens apart from the others."""
    cached = tally.num_cached_tokens
    return {
        "input_tokens": tally.num_prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "cache_creation": None,
        "output_tokens": tally.num_generated_tokens,
        "output_tokens_details": None,
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
    }
