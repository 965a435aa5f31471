"""`GET /v1/timeline`: the engine's steps as server-sent events, each as it happens.

An event is one `StepRecord`: which requests a step computed, how many tokens of each, what the
blocks and the queue looked like, and the milliseconds of its parts. Requests are named by the ids
their answers carry and nothing else is told of them; a key sees its own requests alone
(`timeline_view`). `since` begins with a step that is past.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.admission.viewer_slots import ViewerSlots
from thirdeye.server.api.generation.respond import answer_stream
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import data_frame
from thirdeye.server.api.introspection.timeline_view import seen_by
from thirdeye.server.api.state.context import Context
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.types import Engine, EngineDead
from thirdeye.server.errors import InvalidRequest, engine_failed
from thirdeye.server.settings.api_keys import OPERATE

MAX_WATCHERS = 16
MAX_WATCHERS_OF_KEY = 4
MAX_STEP = 2**53 - 1  # what any JSON reader can count to
SINCE = {"name": "since", "schema": {"type": "integer", "minimum": 0, "maximum": MAX_STEP}}


def timeline_routes(context: Context) -> APIRouter:
    router = APIRouter()
    slots = ViewerSlots(MAX_WATCHERS, MAX_WATCHERS_OF_KEY, "clients watch the timeline already")

    @router.get(
        "/v1/timeline", **documented("Timeline", media_type="", streams="StepRecord", query=SINCE)
    )
    async def watch_timeline(request: Request) -> Response:
        engine, _ = context.state.serving()
        since = read_since(request)
        lifetime = lifetime_of(request)
        lifetime.at_end(slots.acquire(lifetime.caller))
        tenant = None if OPERATE in lifetime.scopes else lifetime.caller
        frames = lifetime.revocation.guard_bodies(_frames(engine, since, tenant))
        return answer_stream(request, context, frames)

    return router


def read_since(request: Request) -> int:
    """The one query parameter; 0 if it is left out. Raises `InvalidRequest`."""
    for name in request.query_params.keys() - {"since"}:
        shown = "".join(c if c.isprintable() else "?" for c in name[:64])
        raise InvalidRequest(
            f"Unknown query parameter '{shown}'.", param=shown, code="unknown_parameter"
        )
    values = request.query_params.getlist("since") or ["0"]
    text = values[0]
    is_number = len(values) == 1 and text.isascii() and text.isdecimal() and len(text) <= 16
    if not is_number or int(text) > MAX_STEP:
        raise InvalidRequest(
            f"'since' must be one integer between 0 and {MAX_STEP}.",
            param="since",
            code="invalid_value",
        )
    return int(text)


async def _frames(engine: Engine, since: int, tenant: str | None) -> AsyncGenerator[bytes, None]:
    """What `tenant` may see of the steps; None sees all."""
    encode = msgspec.json.Encoder().encode
    # `Engine.watch` gives a generator in every engine; `AsyncIterator` cannot say that it closes.
    records = cast("AsyncGenerator[StepRecord, None]", engine.watch(since))
    try:
        async with aclosing(records):
            async for record in records:
                shown = record if tenant is None else seen_by(record, tenant)
                yield data_frame(encode(shown))
    except EngineDead:
        raise engine_failed() from None
