"""A look into the model as it comes: start, layer, layer, ..., end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from msgspec import UNSET, UnsetType

from thirdeye.server.api.adapters.loaded_adapters import with_adapter
from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.introspection.inspection import (
    AskedExpert,
    Followed,
    InspectionEvent,
    InspectionLayer,
    InspectionStart,
    InspectionSweep,
    Neuron,
)
from thirdeye.server.api.introspection.inspection_end import (
    describe,
    ending,
    followed_tokens,
    shown,
)
from thirdeye.server.api.introspection.inspection_numbers import numbers, written
from thirdeye.server.api.introspection.interventions.effect_answers import SweptOutcomes
from thirdeye.server.api.state.model_design import ModelDesign
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.trace import OF_KV_HEADS, STREAM, Trace, TraceRequest
from thirdeye.server.engine.interface.types import Engine, EngineDead
from thirdeye.server.errors import InternalError, engine_down

DIMS = {
    "pattern": ["layer", "head", "query_pos", "key_pos"],
    "norms": ["layer", "pos"],
    "logit_lens": ["layer", "lens_position", "rank"],
    **{name: ["layer", "pos", "d_model"] for name in STREAM},
    **{name: ["layer", "head", "pos", "d_head"] for name in ("q", "q_normed", "rot_q", "z")},
    **{name: ["layer", "kv_head", "pos", "d_head"] for name in OF_KV_HEADS},
    "scores": ["layer", "head", "query_pos", "key_pos"],
    "result": ["layer", "head", "pos", "d_model"],
    "value_norms": ["layer", "head", "key_pos"],
    "norm_stats": ["layer", "norm", "pos", "stat"],
    "neurons": ["layer", "pos", "rank"],
    "routing": ["layer", "pos", "rank"],
    "lens_tokens": ["layer", "lens_position", "token"],
}


def dims_of(part: str, design: ModelDesign) -> list[str]:
    """A value has a length for each token that looks where that says what is let through."""
    if part == "value_norms" and design.gated_heads:
        return DIMS["scores"]
    return DIMS[part]


class InspectionEvents:
    """One text that is looked into: its events."""

    def __init__(self, body: InspectRequest, model: ServedModel, request: TraceRequest) -> None:
        self._body = body
        self._model = model
        self._request = request
        self._fingerprint = with_adapter(model.fingerprint, model.adapter_of(body.model))
        sweep, info = request.sweep, model.info
        self._swept = sweep and SweptOutcomes(sweep, info.num_heads, info.kv_heads_of_layers)

    async def events(self, engine: Engine) -> AsyncGenerator[InspectionEvent, None]:
        """Start, the layers, end. Raises `ApiError` if the engine fails."""
        yield self._start()
        # `Engine.inspect` gives a generator in every engine; `AsyncIterator` cannot say so.
        traces = cast("AsyncGenerator[Trace, None]", engine.inspect(self._request))
        try:
            async with aclosing(traces):
                async for trace in traces:
                    event = await asyncio.to_thread(self._event, checked(trace, engine))
                    if event is not None:
                        yield event
        except EngineDead:
            raise engine_down(engine.restart_eta) from None

    def _start(self) -> InspectionStart:
        info, tokenizer, request = self._model.info, self._model.tokenizer, self._request
        asked = {*self._body.include, *(["lens_tokens"] if self._body.lens_tokens else [])}
        parts = [part for part in DIMS if part in asked]
        return InspectionStart(
            id=request.request_id,
            created=unix_seconds(),
            model=self._body.model or self._model.names[0],
            system_fingerprint=self._fingerprint,
            tokens=[describe(token_id, tokenizer) for token_id in request.token_ids],
            dims={part: dims_of(part, info.design) for part in parts},
            layer_numbers=request.layers,
            lens_positions=request.lens_positions,
            heads=request.heads,
            kv_heads=looked_at(request.heads, info.num_heads, info.num_kv_heads),
            positions=request.positions,
            num_layers=info.num_layers,
            num_heads=info.num_heads,
            num_kv_heads=info.num_kv_heads,
            head_dim=info.head_dim,
            hidden_size=info.hidden_size,
            parameters=dict(info.parameters),
            design=info.design,
            untold=dict(info.untold),
        )

    def _event(self, trace: Trace) -> InspectionEvent | None:
        """Of thousands or millions of numbers: call it from a thread. None: there is no news."""
        if self._swept and not trace.is_last:
            if "variants" in trace.arrays:
                return InspectionSweep(self._swept.told(trace.arrays["variants"]))
            self._swept.begin(trace.arrays)
            return None
        tokenizer, is_packed = self._model.tokenizer, self._body.encoding_format == "base64"
        guesses = [shown(guesses, tokenizer) for guesses in trace.lens]
        followed: Followed | UnsetType = UNSET
        if "lens_tokens" in trace.arrays:
            followed = followed_tokens(trace.arrays["lens_tokens"], self._request.lens_tokens)
        if trace.is_last:
            return ending(trace, guesses, followed, tokenizer, is_packed)
        event = InspectionLayer(layer=trace.layer, lens_tokens=followed)
        info = self._model.info
        if info.shapes and not trace.arrays.keys().isdisjoint(OF_KV_HEADS):
            count = info.num_kv_heads_of(trace.layer)
            event.kv_heads = looked_at(self._request.heads, info.num_heads, count)
        for name, values in trace.arrays.items():
            if name == "norms":
                event.norms = dict(zip(STREAM, numbers(values), strict=True))
            elif name == "neurons" and values.shape[1]:
                event.neurons = [
                    [Neuron(int(index), value) for index, value in row] for row in numbers(values)
                ]
            elif name == "routing" and values.shape[1]:
                event.routing = [
                    [AskedExpert(int(index), weight) for index, weight in row]
                    for row in numbers(values)
                ]
            elif name not in ("lens_tokens", "neurons", "routing"):
                setattr(event, name, written(values, is_packed))
        if self._request.has_lens:
            event.logit_lens = guesses
        return event


def looked_at(heads: list[int], num_heads: int, num_kv_heads: int) -> list[int]:
    """The key/value heads that these query heads look at, each once."""
    group = num_heads // max(num_kv_heads, 1)
    return list(dict.fromkeys(head // group for head in heads))


def checked(trace: Trace, engine: Engine) -> Trace:
    """Itself. Raises `ApiError` if it says that the engine failed."""
    if trace.error is not None and not engine.is_alive:
        raise engine_down(engine.restart_eta, trace.error)
    if trace.error is not None:
        raise InternalError(trace.error, code="internal_error")
    return trace
