"""An answer as `POST /v1/messages` has it: a message of content blocks, whole or as typed events.

    message_start
        content_block_start  content_block_delta ...  content_block_stop      thinking, text, or a
                                                                              tool's use
    message_delta  message_stop

A message in one piece is what its events add up to. A silent stream gets `ping` events, a failed
one an `error` event and no end.
"""

from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.http.error_envelope import anthropic_error
from thirdeye.server.api.http.sse import Framing, event_frame
from thirdeye.server.api.state.answer_parts import AnswerTimings
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.text.events import TextEvent

# Clients send it back with the thought, and refuse a block without. Nothing here is signed, and
# thoughts that come back are taken as they are.
SIGNATURE = "dGhpcmRleWU="

decode = Decoder(JsonObject).decode


class MessageStart(Struct, tag="message_start", tag_field="type"):
    message: JsonObject


class BlockStart(Struct, tag="content_block_start", tag_field="type"):
    index: int
    content_block: JsonObject


class TextPiece(Struct, tag="text_delta", tag_field="type"):
    text: str


class InputPiece(Struct, tag="input_json_delta", tag_field="type"):
    partial_json: str


class ThinkingPiece(Struct, tag="thinking_delta", tag_field="type"):
    thinking: str


class SignaturePiece(Struct, tag="signature_delta", tag_field="type"):
    signature: str


class BlockDelta(Struct, tag="content_block_delta", tag_field="type"):
    index: int
    delta: TextPiece | InputPiece | ThinkingPiece | SignaturePiece


class BlockStop(Struct, tag="content_block_stop", tag_field="type"):
    index: int


class MessageDelta(Struct, tag="message_delta", tag_field="type"):
    delta: JsonObject
    usage: JsonObject
    timings: AnswerTimings | None


class MessageStop(Struct, tag="message_stop", tag_field="type"):
    pass


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class MessagesFormat:
    """The `AnswerFormat` of one request. Its last block is open until the next one begins."""

    def __init__(self, generation: Generation, tally: Tally) -> None:
        self._generation = generation
        self._tally = tally
        self._num_blocks = 0
        self._open: str | None = None  # the type of the open block
        self._is_begun = False

    def chunks(self, index: int, event: TextEvent) -> Iterator[Event]:
        assert index == 0, "a request has one message"
        if not self._is_begun:
            self._is_begun = True
            yield MessageStart(empty_message(self._generation, self._tally))
        if event.thought:
            if self._open != "thinking":
                yield from self._begin(empty_thinking())
            yield BlockDelta(self._num_blocks - 1, ThinkingPiece(event.thought))
        if event.text:
            if self._open != "text":
                yield from self._begin(empty_text())
            yield BlockDelta(self._num_blocks - 1, TextPiece(event.text))
        for call in event.tool_calls:
            if call.name is not None:
                yield from self._begin(empty_tool_use(call.name, call.call_id))
            assert self._open == "tool_use", "a call begins with its name"
            if call.arguments:
                yield BlockDelta(self._num_blocks - 1, InputPiece(call.arguments))
        if event.finish_reason is not None:
            yield from self._end(event)

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        return map(frame_of, self.chunks(index, event))

    def last_frames(self) -> Iterable[bytes]:
        return ()

    def whole(self, chunks: Sequence[Event]) -> JsonObject:
        message: JsonObject = {}
        blocks: list[list[BlockStart | BlockDelta]] = []
        for event in chunks:
            match event:
                case MessageStart():
                    message |= event.message
                case BlockStart():
                    blocks.append([event])
                case BlockDelta():
                    blocks[event.index].append(event)
                case MessageDelta():
                    beside = {"usage": event.usage, "timings": event.timings}
                    message |= event.delta | beside
        return message | {"content": [joined_block(block) for block in blocks]}

    def _begin(self, block: JsonObject) -> Iterator[Event]:
        yield from self._close()
        self._num_blocks += 1
        self._open = str(block["type"])
        yield BlockStart(self._num_blocks - 1, block)

    def _close(self) -> Iterator[Event]:
        if self._open is not None:
            if self._open == "thinking":
                yield BlockDelta(self._num_blocks - 1, SignaturePiece(SIGNATURE))
            self._open = None
            yield BlockStop(self._num_blocks - 1)

    def _end(self, event: TextEvent) -> Iterator[Event]:
        if not self._num_blocks:
            yield from self._begin(empty_text())
        yield from self._close()
        yield MessageDelta(ending_of(event), usage_of(self._tally), self._tally.timings())
        yield MessageStop()


def frame_of(event: Event) -> bytes:
    return event_frame(str(event.__struct_config__.tag), encode(event))


def framing_of(request_id: str) -> Framing:
    return Framing(
        error=lambda error: event_frame("error", encode(anthropic_error(error, request_id))),
        keepalive=event_frame("ping", b'{"type":"ping"}'),
        end=b"",
    )


def joined_block(events: Sequence[BlockStart | BlockDelta]) -> JsonObject:
    """A content block: what it began with, and all that was added."""
    block: JsonObject = {}
    pieces: list[str] = []
    for event in events:
        match event:
            case BlockStart():
                block |= event.content_block
            case BlockDelta(delta=TextPiece(text=piece) | InputPiece(partial_json=piece)):
                pieces.append(piece)
            case BlockDelta(delta=ThinkingPiece(thinking=piece)):
                pieces.append(piece)
            case BlockDelta(delta=SignaturePiece(signature=signature)):
                block["signature"] = signature
    joined = "".join(pieces)
    if block["type"] == "tool_use":
        return block | {"input": object_in(joined)}
    return block | {str(block["type"]): joined}


def object_in(arguments: str) -> JsonObject:
    """An empty one if the end of the answer cut its JSON."""
    try:
        return decode(arguments)
    except DecodeError:
        return {}


def empty_text() -> JsonObject:
    """Anthropic's schema wants the key, and a published client of it does not take null there."""
    return {"type": "text", "text": "", "citations": []}


def empty_thinking() -> JsonObject:
    return {"type": "thinking", "thinking": "", "signature": ""}


def empty_tool_use(name: str, call_id: str = "") -> JsonObject:
    head = {"type": "tool_use", "id": call_id or f"toolu_{uuid4().hex}", "name": name}
    return {**head, "input": {}, "caller": {"type": "direct"}}


def ending_of(event: TextEvent) -> JsonObject:
    """Why the message ended. A stop token is no sequence that the caller named."""
    matched = event.stop_reason if isinstance(event.stop_reason, str) else None
    if event.finish_reason is FinishReason.LENGTH:
        reason = "max_tokens"
    elif event.ended_in_tool_calls:
        reason = "tool_use"
    else:
        reason = "end_turn" if matched is None else "stop_sequence"
    ending = {"stop_reason": reason, "stop_sequence": matched, "stop_details": None}
    return {**ending, "container": None}


def empty_message(generation: Generation, tally: Tally) -> JsonObject:
    """Every key of a message that has just begun."""
    ending = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
    head = {"id": generation.id, "type": "message", "role": "assistant", "content": []}
    usage = usage_of(tally)
    return {**head, "model": generation.model, **ending, "container": None, "usage": usage}


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
