"""`POST /v1/inspect`: what the served model does with a text, layer by layer.

    text -> token ids -> limits -> Engine.inspect -> start, layer, layer, ..., end

A stream has one event each; an answer in one piece is the same events, drained and merged. The
engine works on it between its steps, so running answers hardly notice; few may look at a time.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast
from uuid import uuid4

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.generation.request_rules import check_prompt_ids, refuse
from thirdeye.server.api.generation.respond import answer_stream, unless_gone
from thirdeye.server.api.http.admission import ViewerSlots
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import data_frame
from thirdeye.server.api.introspection.inspect_request import (
    MAX_TOKENS,
    InspectRequest,
    check_size,
    layers_of,
)
from thirdeye.server.api.openai.schema import TokenizeRequest
from thirdeye.server.api.openai.tokenize import encode_body
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.trace import (
    ARRAYS,
    STREAM,
    Array,
    Guesses,
    Trace,
    TraceRequest,
)
from thirdeye.server.engine.interface.types import Engine, EngineDead
from thirdeye.server.errors import InternalError, engine_down
from thirdeye.server.text.templates.completion_prompt import fewest_tokens, too_long
from thirdeye.server.text.token_logprobs import token_text
from thirdeye.server.text.tokenizer import Tokenizer

MAX_VIEWERS = 4
DIGITS = 6  # of a number in JSON, behind the point
DIMS = {
    "pattern": ["layer", "head", "query_pos", "key_pos"],
    "norms": ["layer", "pos"],
    "logit_lens": ["layer", "lens_position", "rank"],
    **{name: ["layer", "pos", "d_model"] for name in STREAM},
}


def inspect_routes(context: Context) -> APIRouter:
    router = APIRouter()
    slots = ViewerSlots(MAX_VIEWERS, f"{MAX_VIEWERS} texts are being looked into already")

    @router.post(
        "/v1/inspect",
        **documented("Inspect", InspectRequest, answer="Inspection", streams="InspectionEvent"),
    )
    async def inspect(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, InspectRequest, {})
        if body.model is not None:
            model.check_name(body.model)
        ids = await encode_text(body, model)
        inspection = InspectionEvents(body, model, trace_request(body, ids, model))
        slots.acquire()
        lifetime = lifetime_of(request)
        lifetime.at_end(slots.release)
        lifetime.at_end(context.state.admission.admit(1).release)  # a drain waits for it
        events = inspection.events(engine)
        if not body.stream:
            return json_response(await unless_gone(request, merged(events)))
        return answer_stream(request, context, framed(events))

    return router


async def encode_text(body: InspectRequest, model: ServedModel) -> list[int]:
    """Token ids, at least one. Raises `BadRequest`."""
    prompt = body.prompt
    if isinstance(prompt, list):
        if body.messages is not None:
            raise refuse("messages", "cannot be given together with 'prompt'.")
        check_prompt_ids([prompt], model, "prompt")
        return prompt
    if prompt is not None and too_long(prompt, MAX_TOKENS, model.tokenizer):
        num_tokens = fewest_tokens(prompt, model.tokenizer)
        rule = f"must be at most {MAX_TOKENS} tokens long, got at least {num_tokens}."
        raise refuse("prompt", rule, "context_length_exceeded")
    shared = body.model_fields_set & TokenizeRequest.model_fields.keys()
    given = {name: getattr(body, name) for name in shared}
    found = await encode_body(TokenizeRequest(**given | {"prompt": prompt}), model)
    if not found:
        raise refuse("prompt", "must not be empty.", "empty_string")
    return found


def trace_request(body: InspectRequest, ids: list[int], model: ServedModel) -> TraceRequest:
    """What the engine is asked. Raises `BadRequest` for what is too large."""
    layers = layers_of(body, model.info)
    param = "prompt" if body.prompt is not None else "messages"
    check_size(body, len(ids), layers, model.info, param)
    if len(ids) > model.max_model_len:
        rule = f"must be at most {model.max_model_len} tokens long, got {len(ids)}."
        raise refuse(param, rule, "context_length_exceeded")
    is_all = body.lens_positions == "all" and "logit_lens" in body.include
    return TraceRequest(
        request_id=f"inspect-{uuid4().hex}",
        token_ids=ids,
        layers=layers,
        arrays=[name for name in ARRAYS if name in body.include],
        has_lens="logit_lens" in body.include,
        lens_positions=list(range(len(ids))) if is_all else [len(ids) - 1],
        num_top=min(body.top_logprobs, model.tokenizer.vocab_size),
    )


class InspectionEvents:
    """One text that is looked into: its events as JSON objects."""

    def __init__(self, body: InspectRequest, model: ServedModel, request: TraceRequest) -> None:
        self._body = body
        self._model = model
        self._request = request

    async def events(self, engine: Engine) -> AsyncGenerator[JsonObject, None]:
        """Start, the layers, end. Raises `ApiError` if the engine fails."""
        yield self._start()
        # `Engine.inspect` gives a generator in every engine; `AsyncIterator` cannot say so.
        traces = cast("AsyncGenerator[Trace, None]", engine.inspect(self._request))
        try:
            async with aclosing(traces):
                async for trace in traces:
                    if trace.error is not None and not engine.is_alive:
                        raise engine_down(engine.restart_eta, trace.error)
                    if trace.error is not None:
                        raise InternalError(trace.error, code="internal_error")
                    yield await asyncio.to_thread(self._event, trace)
        except EngineDead:
            raise engine_down(engine.restart_eta) from None

    def _start(self) -> JsonObject:
        info, tokenizer, request = self._model.info, self._model.tokenizer, self._request
        parts = [part for part in DIMS if part in self._body.include]
        return {
            "object": "inspection.start",
            "id": request.request_id,
            "created": unix_seconds(),
            "model": self._body.model or self._model.names[0],
            "system_fingerprint": self._model.fingerprint,
            "tokens": [describe(token_id, tokenizer) for token_id in request.token_ids],
            "dims": {part: DIMS[part] for part in parts},
            "layer_numbers": request.layers,
            "lens_positions": request.lens_positions,
            "num_layers": info.num_layers,
            "num_heads": info.num_heads,
            "num_kv_heads": info.num_kv_heads,
            "hidden_size": info.hidden_size,
            "parameters": dict(info.parameters),
        }

    def _event(self, trace: Trace) -> JsonObject:
        """Of thousands or millions of numbers: call it from a thread."""
        guesses = [shown(guesses, self._model.tokenizer) for guesses in trace.lens]
        if trace.is_last:
            return {"object": "inspection.end", "next_token": guesses}
        event: JsonObject = {"object": "inspection.layer", "layer": trace.layer}
        for name, values in trace.arrays.items():
            if name == "norms":
                event[name] = dict(zip(STREAM, numbers(values), strict=True))
            elif self._body.encoding_format == "base64":
                event[name] = packed(values)
            else:
                event[name] = numbers(values)
        return event | ({"logit_lens": guesses} if self._request.has_lens else {})


async def merged(events: AsyncGenerator[JsonObject, None]) -> JsonObject:
    """All events in one object: the layers in a list, the rest side by side."""
    whole: JsonObject = {}
    layers: list[JsonObject] = []
    async with aclosing(events):
        async for event in events:
            kind = event.pop("object")
            if kind == "inspection.layer":
                layers.append(event)
            else:
                whole |= event
    return {"object": "inspection", **whole, "layers": layers}


async def framed(events: AsyncGenerator[JsonObject, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            yield data_frame(encode(event))


def describe(token_id: int, tokenizer: Tokenizer) -> JsonObject:
    """One token of the text; U+FFFD in `token` stands for bytes that are no whole character."""
    raw = tokenizer.token_bytes(token_id)
    return {"id": token_id, "token": token_text(raw), "bytes": list(raw)}


def shown(guesses: Guesses, tokenizer: Tokenizer) -> list[JsonObject]:
    return [
        {
            "id": token_id,
            "token": token_text(tokenizer.token_bytes(token_id)),
            "logprob": round(logprob, DIGITS) + 0.0,  # and never -0.0
        }
        for token_id, logprob in guesses
    ]


def numbers(values: Array) -> list[object]:
    """Nested lists of rounded numbers."""
    flat = [round(value, DIGITS) for value in memoryview(values.data).cast("f")]
    return nested(flat, values.shape)


def nested(flat: Sequence[object], shape: Sequence[int]) -> list[object]:
    """Row-major values in lists of lists: 6 values of shape [2, 3] are two lists of three."""
    if len(shape) == 1:
        return list(flat)
    size = len(flat) // shape[0]
    return [nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def packed(values: Array) -> JsonObject:
    data = base64.b64encode(values.data).decode()
    return {"shape": values.shape, "dtype": "float32", "data": data}
