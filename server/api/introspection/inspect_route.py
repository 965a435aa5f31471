"""`POST /v1/inspect`: what the served model does with a text, layer by layer.

    text -> token ids -> limits -> Engine.inspect -> start, layer, layer, ..., end

A stream has one event each; an answer in one piece is the same events, drained and merged. The
engine works on it between its steps, so running answers hardly notice; few may look at a time.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import encode
from thirdeye.server.api.generation.request_rules import check_prompt_ids, refuse
from thirdeye.server.api.generation.respond import answer_stream, unless_gone
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import data_frame
from thirdeye.server.api.introspection.inspect_limits import (
    check_length,
    check_parts,
    check_size,
    heads_of,
    layers_of,
    positions_of,
)
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.introspection.inspect_seats import InspectSeats, check_level
from thirdeye.server.api.introspection.inspection import (
    InspectedLayer,
    InspectionEvent,
    InspectionLayer,
    InspectionSweep,
    WholeInspection,
)
from thirdeye.server.api.introspection.inspection_events import InspectionEvents
from thirdeye.server.api.introspection.interventions.number_fields import MAX_TOKENS
from thirdeye.server.api.introspection.interventions.sweep_plan import with_interventions
from thirdeye.server.api.introspection.token_choice import token_ids_of
from thirdeye.server.api.introspection.vocabulary_route import vocabulary_routes
from thirdeye.server.api.openai.schema import TokenizeRequest
from thirdeye.server.api.openai.tokenize import encode_body
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.trace import ARRAYS, ENDINGS, TraceRequest
from thirdeye.server.text.templates.completion_prompt import fewest_tokens, too_long


def inspect_routes(context: Context) -> APIRouter:
    router, seats = APIRouter(), InspectSeats(context)
    router.include_router(vocabulary_routes(context, seats))

    @router.post(
        "/v1/inspect",
        **documented("Inspect", InspectRequest, answer=WholeInspection, streams="InspectionEvent"),
    )
    async def inspect(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, InspectRequest)
        model.check_name(body.model)
        ids = await encode_text(body, model)
        lifetime = lifetime_of(request)
        check_level(context.config.inspect, body)
        asked = trace_request(body, ids, model, lifetime.caller)
        asked = await with_interventions(body, asked, model)
        inspection = InspectionEvents(body, model, asked)
        seats.take(lifetime, num_tokens=len(ids))
        events = inspection.events(engine)
        if not body.stream:
            return json_response(await unless_gone(request, merged(events)))
        frames = lifetime.revocation.guard_bodies(framed(events))
        return answer_stream(request, context, frames)

    return router


async def encode_text(body: InspectRequest, model: ServedModel) -> list[int]:
    """Token ids, at least one. Raises `InvalidRequest`."""
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


def trace_request(
    body: InspectRequest, ids: list[int], model: ServedModel, caller: str = ""
) -> TraceRequest:
    """What the engine is asked. Raises `InvalidRequest` for what is too large."""
    info, param = model.info, "prompt" if body.prompt is not None else "messages"
    layers, heads = layers_of(body, info), heads_of(body, info)
    check_parts(body, info)
    check_length(body, len(ids), param)
    if len(ids) > model.max_model_len:
        rule = f"must be at most {model.max_model_len} tokens long, got {len(ids)}."
        raise refuse(param, rule, "context_length_exceeded")
    has_lens = "logit_lens" in body.include
    is_all = body.lens_positions == "all" and (has_lens or body.lens_tokens)
    adapter = model.adapter_of(body.model)
    trace = TraceRequest(
        request_id=f"inspect-{uuid4().hex}",
        token_ids=ids,
        layers=layers,
        arrays=[name for name in ARRAYS if name in body.include],
        heads=heads,
        positions=positions_of(body, len(ids)),
        has_masked_scores=body.masked_scores,
        num_neurons=body.top_neurons,
        has_lens=has_lens,
        lens_positions=list(range(len(ids))) if is_all else [len(ids) - 1],
        lens_tokens=token_ids_of(body.lens_tokens, model, "lens_tokens"),
        num_top=min(body.top_logprobs, model.tokenizer.vocab_size),
        endings=[name for name in ENDINGS if name in body.include],
        compare=token_ids_of(body.compare, model, "compare"),
        tenant=caller,
        adapter=0 if adapter is None else adapter.number,
    )
    check_size(trace, body.stream, info)
    return trace


async def merged(events: AsyncGenerator[InspectionEvent, None]) -> WholeInspection:
    """All events in one object: the layers in a list, the rest side by side."""
    whole: dict[str, Any] = {}
    layers: list[InspectedLayer] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, InspectionLayer):
                layers.append(InspectedLayer(**structs.asdict(event)))
            elif isinstance(event, InspectionSweep):
                whole.setdefault("variants", []).extend(event.variants)
            else:
                whole |= structs.asdict(event)
    return WholeInspection(**whole, layers=layers)


async def framed(events: AsyncGenerator[InspectionEvent, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            yield data_frame(encode(event))
