"""A look into the model as it comes: start, layer, layer, ..., end."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.introspection.inspection import (
    GuessedToken,
    InspectedToken,
    InspectionEnd,
    InspectionEvent,
    InspectionLayer,
    InspectionStart,
    PackedArray,
)
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.trace import STREAM, Array, Guesses, Trace, TraceRequest
from thirdeye.server.engine.interface.types import Engine, EngineDead
from thirdeye.server.errors import InternalError, engine_down
from thirdeye.server.text.token_logprobs import token_text
from thirdeye.server.text.tokenizer import TokenizerLike

DIGITS = 6  # of a number in JSON, behind the point
DIMS = {
    "pattern": ["layer", "head", "query_pos", "key_pos"],
    "norms": ["layer", "pos"],
    "logit_lens": ["layer", "lens_position", "rank"],
    **{name: ["layer", "pos", "d_model"] for name in STREAM},
}


class InspectionEvents:
    """One text that is looked into: its events."""

    def __init__(self, body: InspectRequest, model: ServedModel, request: TraceRequest) -> None:
        self._body = body
        self._model = model
        self._request = request

    async def events(self, engine: Engine) -> AsyncGenerator[InspectionEvent, None]:
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

    def _start(self) -> InspectionStart:
        info, tokenizer, request = self._model.info, self._model.tokenizer, self._request
        parts = [part for part in DIMS if part in self._body.include]
        return InspectionStart(
            id=request.request_id,
            created=unix_seconds(),
            model=self._body.model or self._model.names[0],
            system_fingerprint=self._model.fingerprint,
            tokens=[describe(token_id, tokenizer) for token_id in request.token_ids],
            dims={part: DIMS[part] for part in parts},
            layer_numbers=request.layers,
            lens_positions=request.lens_positions,
            num_layers=info.num_layers,
            num_heads=info.num_heads,
            num_kv_heads=info.num_kv_heads,
            hidden_size=info.hidden_size,
            parameters=dict(info.parameters),
        )

    def _event(self, trace: Trace) -> InspectionLayer | InspectionEnd:
        """Of thousands or millions of numbers: call it from a thread."""
        guesses = [shown(guesses, self._model.tokenizer) for guesses in trace.lens]
        if trace.is_last:
            return InspectionEnd(guesses)
        event = InspectionLayer(layer=trace.layer)
        written = packed if self._body.encoding_format == "base64" else numbers
        for name, values in trace.arrays.items():
            if name == "norms":
                event.norms = dict(zip(STREAM, numbers(values), strict=True))
            else:
                setattr(event, name, written(values))
        if self._request.has_lens:
            event.logit_lens = guesses
        return event


def describe(token_id: int, tokenizer: TokenizerLike) -> InspectedToken:
    raw = tokenizer.token_bytes(token_id)
    return InspectedToken(token_id, token_text(raw), list(raw))


def shown(guesses: Guesses, tokenizer: TokenizerLike) -> list[GuessedToken]:
    return [
        GuessedToken(
            token_id,
            token_text(tokenizer.token_bytes(token_id)),
            round(logprob, DIGITS) + 0.0,  # and never -0.0
        )
        for token_id, logprob in guesses
    ]


def numbers(values: Array) -> list[Any]:
    """Nested lists of rounded numbers."""
    flat = [round(value, DIGITS) for value in memoryview(values.data).cast("f")]
    return nested(flat, values.shape)


def nested(flat: Sequence[object], shape: Sequence[int]) -> list[object]:
    """Row-major values in lists of lists: 6 values of shape [2, 3] are two lists of three."""
    if len(shape) == 1:
        return list(flat)
    size = len(flat) // shape[0]
    return [nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def packed(values: Array) -> PackedArray:
    return PackedArray(values.shape, "float32", base64.b64encode(values.data).decode())
