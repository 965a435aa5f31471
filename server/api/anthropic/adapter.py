"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens` over the same engine.

A request becomes a chat request: `system` is a message in front, a `tool_use` block a call of its
assistant message, a `tool_result` block a message of role `tool`; a last turn of the assistant is
continued. Chat's events become a message of content blocks:

    message_start
        content_block_start  content_block_delta ...  content_block_stop      text, or a tool's use
    message_delta  message_stop

One state machine makes the events and, on the way, the message; an answer that is not streamed runs
through it too and keeps the message alone. A silent stream gets `ping` events, a failed one an
`error` event and no end.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from uuid import uuid4

from fastapi import APIRouter
from msgspec import DecodeError, Struct
from msgspec.json import Decoder
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.anthropic import schema
from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.context import Context
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.generation.usage import Tally
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.error_envelope import MESSAGES_PATH, anthropic_error
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import Framing, event_frame
from thirdeye.server.api.openai.as_chat import FieldNames, count_as_chat, plan_as_chat
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.text.events import TextEvent

FIELD_NAMES: FieldNames = [
    (r"messages\[\d+\].*", "messages"),
    (r"continue_final_message", "messages"),
    (r"tools\[(\d+)\]\.function\.parameters", r"tools[\1].input_schema"),
    (r"tools\[(\d+)\]\.function", r"tools[\1]"),
    (r"tool_choice\.function", "tool_choice"),
    (r"response_format\.json_schema", "output_config.format"),
    (r"response_format", "output_config.format"),
    (r"max_completion_tokens", "max_tokens"),
    (r"stop", "stop_sequences"),
]

decode = Decoder(JsonObject).decode

Event = tuple[str, JsonObject]  # its type, and what it says besides


class AnthropicCount(Struct):
    input_tokens: Count


def messages_routes(context: Context) -> APIRouter:
    router = APIRouter()
    to_message = documented(
        *("Messages", schema.MessagesRequest),
        answer="AnthropicMessage",
        error="AnthropicError",
        streams="MessageEvent",
    )
    to_count = documented(
        "Messages", schema.CountTokensRequest, answer=AnthropicCount, error="AnthropicError"
    )

    @router.post(MESSAGES_PATH, **to_message)
    async def create_message(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(
            request, schema.MessagesRequest, schema.REFUSED_IN_MESSAGES
        )
        check_ceilings(context.config, body.stop_sequences, stop_param="stop_sequences")
        model.check_name(body.model)
        lifetime = lifetime_of(request)
        generation = await plan_as_chat(
            as_chat(body),
            model,
            context.grammars,
            lifetime.caller,
            id_prefix="msg_",
            names=FIELD_NAMES,
        )
        tally = generation.tally()
        shape = MessageShape(generation, tally)
        framing = framing_of(lifetime.request_id)
        return await respond(
            request, context, generation, shape, tally, stream=body.stream, framing=framing
        )

    @router.post(f"{MESSAGES_PATH}/count_tokens", **to_count)
    async def count_tokens(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(
            request, schema.CountTokensRequest, schema.REFUSED_IN_MESSAGES
        )
        model.check_name(body.model)
        num_tokens = await count_as_chat(prompt_of(body), model, FIELD_NAMES)
        return json_response(AnthropicCount(num_tokens))

    return router


def as_chat(body: schema.MessagesRequest) -> JsonObject:
    """The same request in chat's words."""
    chat = prompt_of(body) | {
        "max_completion_tokens": body.max_tokens,
        "stream": body.stream,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "user": body.metadata and body.metadata.user_id,
    }
    return chat | ({"stop": list(body.stop_sequences)} if body.stop_sequences else {})


def prompt_of(body: schema.CountTokensRequest) -> JsonObject:
    """What the prompt is made of, in chat's words."""
    chat: JsonObject = {"model": body.model, "messages": messages_of(body)}
    if body.messages[-1].role == "assistant":
        chat["continue_final_message"] = True
    if body.output_config is not None and body.output_config.format is not None:
        output = {"name": "output", "schema": body.output_config.format.schema_}
        chat["response_format"] = {"type": "json_schema", "json_schema": output}
    if body.tools:
        chat["tools"] = [_tool(tool) for tool in body.tools]
        chat |= _choice(body.tool_choice)
    elif body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise refuse("tool_choice", "needs 'tools'.")
    return chat


def messages_of(body: schema.CountTokensRequest) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if body.system is not None:
        messages.append({"role": "system", "content": _joined(body.system)})
    for turn in body.messages:
        messages += _user(turn) if isinstance(turn, schema.UserTurn) else [_assistant(turn)]
    if body.messages[-1].role == "assistant" and "tool_calls" in messages[-1]:
        raise refuse("messages", "must not end with a tool's use: send its result.")
    return messages


def _user(turn: schema.UserTurn) -> list[JsonObject]:
    """Tool results are messages of their own; text between them is one message."""
    messages: list[JsonObject] = []
    texts: list[str] = []
    for block in turn.content:
        if isinstance(block, schema.TextBlock):
            texts.append(block.text)
        else:
            messages += [*_said(texts), _result(block)]
            texts = []
    return messages + _said(texts) or [{"role": "user", "content": ""}]


def _said(texts: list[str]) -> list[JsonObject]:
    return [{"role": "user", "content": "".join(texts)}] if texts else []


def _result(block: schema.ToolResultBlock) -> JsonObject:
    """Chat has no flag for a tool that failed, so the text says it."""
    text = _joined(block.content)
    content = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _assistant(turn: schema.AssistantTurn) -> JsonObject:
    text = _joined(block for block in turn.content if isinstance(block, schema.TextBlock))
    calls = [_call(block) for block in turn.content if isinstance(block, schema.ToolUseBlock)]
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def _call(block: schema.ToolUseBlock) -> JsonObject:
    function = {"name": block.name, "arguments": json.dumps(block.input)}
    return {"id": block.id, "type": "function", "function": function}


def _joined(blocks: Iterable[schema.TextBlock]) -> str:
    return "".join(block.text for block in blocks)


def _tool(tool: schema.AnthropicTool) -> JsonObject:
    """`description` and `strict` may be null in chat as here."""
    function = {"name": tool.name, "description": tool.description, "strict": tool.strict}
    return {"type": "function", "function": function | {"parameters": tool.input_schema}}


def _choice(choice: schema.AnthropicToolChoice | None) -> JsonObject:
    if choice is None or isinstance(choice, schema.NoChoice):
        return {"tool_choice": "none" if choice else "auto"}
    mode: object = "required" if choice.type == "any" else choice.type
    if isinstance(choice, schema.NamedChoice):
        mode = {"type": "function", "function": {"name": choice.name}}
    return {"tool_choice": mode, "parallel_tool_calls": not choice.disable_parallel_tool_use}


class MessageShape:
    """One request's message, as it grows. Its last block is open until the next one begins."""

    def __init__(self, generation: Generation, tally: Tally) -> None:
        self._tally = tally
        self._message = empty_message(generation)
        self._content: list[JsonObject] = []
        self._pieces: list[str] = []  # of the open block
        self._is_begun = self._is_open = False

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
            yield "message_start", {"message": self._message | {"usage": usage_of(self._tally)}}
        if event.text:
            if not (self._is_open and self._content[-1]["type"] == "text"):
                yield from self._begin(empty_text())
            yield self._grow({"type": "text_delta", "text": event.text}, event.text)
        for call in event.tool_calls:
            if call.name is not None:
                yield from self._begin(empty_tool_use(call.name))
            if piece := call.arguments:
                yield self._grow({"type": "input_json_delta", "partial_json": piece}, piece)
        if event.finish_reason is not None:
            yield from self._end(event)

    def _begin(self, block: JsonObject) -> Iterator[Event]:
        yield from self._close()
        self._content.append(block)
        self._is_open = True
        yield "content_block_start", self._in_block(content_block=block)

    def _grow(self, delta: JsonObject, piece: str) -> Event:
        assert self._is_open, "a call begins with its name"
        self._pieces.append(piece)
        return "content_block_delta", self._in_block(delta=delta)

    def _close(self) -> Iterator[Event]:
        if self._is_open:
            block, content = self._content[-1], "".join(self._pieces)
            block |= {"text": content} if "text" in block else {"input": object_in(content)}
            yield "content_block_stop", self._in_block()
            self._pieces.clear()
            self._is_open = False

    def _in_block(self, **fields: object) -> JsonObject:
        return {"index": len(self._content) - 1, **fields}

    def _end(self, event: TextEvent) -> Iterator[Event]:
        if not self._content:
            yield from self._begin(empty_text())
        yield from self._close()
        ending, timings = ending_of(event), {"timings": self._tally.timings()}
        beside = {"usage": usage_of(self._tally), **timings}
        self._message |= {"content": self._content, **ending, **beside}
        yield "message_delta", {"delta": {**ending, "container": None}, **beside}
        yield "message_stop", {}


def framing_of(request_id: str) -> Framing:
    return Framing(
        frame=bytes,
        error=lambda error: event_frame("error", encode(anthropic_error(error, request_id))),
        keepalive=event_frame("ping", b'{"type":"ping"}'),
        end=b"",
    )


def empty_text() -> JsonObject:
    return {"type": "text", "text": "", "citations": None}


def empty_tool_use(name: str) -> JsonObject:
    head = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": name}
    return {**head, "input": {}, "caller": {"type": "direct"}}


def object_in(arguments: str) -> JsonObject:
    """An empty one if the end of the answer cut its JSON."""
    try:
        return decode(arguments)
    except DecodeError:
        return {}


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
    ending = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
    head = {"id": generation.id, "type": "message", "role": "assistant", "content": []}
    return {**head, "model": generation.model, **ending, "container": None, "usage": None}


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
