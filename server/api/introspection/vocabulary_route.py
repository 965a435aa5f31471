"""`POST /v1/inspect/vocabulary`: which tokens' embeddings lie close to each other.

The engine reads the table in pieces between its steps, as it does whatever else is looked into.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast
from uuid import uuid4

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.respond import unless_gone
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.introspection.inspect_request import VocabularyRequest
from thirdeye.server.api.introspection.inspect_seats import InspectSeats, check_level
from thirdeye.server.api.introspection.inspection import InspectedToken
from thirdeye.server.api.introspection.inspection_end import describe
from thirdeye.server.api.introspection.inspection_events import checked
from thirdeye.server.api.introspection.inspection_numbers import numbers
from thirdeye.server.api.introspection.token_choice import token_ids_of
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.trace import Trace, TraceRequest, VocabularyQuery
from thirdeye.server.engine.interface.types import Engine, EngineDead
from thirdeye.server.errors import engine_down


class NearToken(InspectedToken):
    cosine: float


class VocabularyToken(InspectedToken):
    """`merge_rank`: when byte-pair encoding made it, among all tokens; null where ids do not tell.
    `nearest`: other tokens, the closest first."""

    merge_rank: Count | None
    nearest: list[NearToken]


class RandomPairs(Struct):
    """Cosines of random pairs of tokens, the same ones each time: what is nothing special."""

    mean: float
    std: float


class VocabularyAnswer(Struct, tag_field="object", tag="inspection.vocabulary"):
    model: str
    tokens: list[VocabularyToken]
    cosines: list[list[float]]  # of each of the tokens with each
    random_pairs: RandomPairs
    centered: bool


def vocabulary_routes(context: Context, seats: InspectSeats) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/inspect/vocabulary",
        **documented("Inspect", VocabularyRequest, answer=VocabularyAnswer),
    )
    async def vocabulary(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, VocabularyRequest)
        model.check_base(body.model)
        check_level(context.config.inspect)
        ids = token_ids_of(body.tokens, model, "tokens")
        lifetime = lifetime_of(request)
        seats.take(lifetime, num_tokens=len(ids))
        query = VocabularyQuery(
            tokens=ids,
            num_nearest=min(body.nearest, model.tokenizer.vocab_size),
            is_centred=body.centered,
        )
        asked = TraceRequest(
            request_id=f"inspect-{uuid4().hex}",
            token_ids=ids,
            layers=[],
            vocabulary=query,
            tenant=lifetime.caller,
        )
        trace = await unless_gone(request, last_trace(engine, asked))
        return json_response(vocabulary_answer(trace, body, ids, model))

    return router


async def last_trace(engine: Engine, asked: TraceRequest) -> Trace:
    """Raises `ApiError` if the engine fails."""
    found = Trace(request_id=asked.request_id)
    traces = cast("AsyncGenerator[Trace, None]", engine.inspect(asked))
    try:
        async with aclosing(traces):
            async for trace in traces:
                found = checked(trace, engine)
    except EngineDead:
        raise engine_down(engine.restart_eta) from None
    return found


def vocabulary_answer(
    trace: Trace, body: VocabularyRequest, ids: list[int], model: ServedModel
) -> VocabularyAnswer:
    found = {name: numbers(values) for name, values in trace.arrays.items()}
    tokens = []
    for token_id, near, cosines in zip(
        ids, found["nearest"], found["nearest_cosines"], strict=True
    ):
        own = describe(token_id, model.tokenizer)
        others = [describe(int(other), model.tokenizer) for other in near]
        tokens.append(
            VocabularyToken(
                id=own.id,
                token=own.token,
                bytes=own.bytes,
                merge_rank=model.tokenizer.merge_rank(token_id),
                nearest=[
                    NearToken(other.id, other.token, other.bytes, cosine)
                    for other, cosine in zip(others, cosines, strict=True)
                ],
            )
        )
    mean, std = found["random"]
    return VocabularyAnswer(
        model=body.model or model.names[0],
        tokens=tokens,
        cosines=found["cosines"],
        random_pairs=RandomPairs(mean, std),
        centered=body.centered,
    )
