"""For operators: `/health`, `/ready`, `/version`, `/load`, `/metrics`, `/reset_prefix_cache`.

`/health` (for some platforms `/ping`) says whether this process should be replaced, `/ready`
whether it wants traffic now. Neither needs a key; the last alone asks the engine to do anything.
"""

from typing import Literal

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import Phase
from thirdeye.server.api.state.shared_totals import rounded_blocks
from thirdeye.server.errors import ServiceUnavailable
from thirdeye.server.settings.api_keys import OPERATE


class Status(Struct):
    status: Literal["ok", "ready"]


class Version(Struct):
    version: str


class Load(Struct):
    """How busy the engine is; `kv_usage` is the used share of the cache's blocks, in sixteenths
    for a key that is not the operator's: others' prompts could be measured by it."""

    running: Count
    waiting: Count
    kv_usage: float
    server_load: Count  # vLLM's: requests in the server


def ops_routes(context: Context) -> APIRouter:
    router = APIRouter()
    state = context.state

    @router.get("/ping", **documented("Operations", answer=Status))
    @router.get("/health", **documented("Operations", answer=Status))
    async def health() -> Response:
        reason = state.health()
        if reason is not None:
            raise ServiceUnavailable(f"Not healthy: {reason}.", code="unhealthy")
        if state.phase is Phase.LOADING:
            state.serving()  # raises with the progress
        return json_response(Status("ok"))

    @router.get("/ready", **documented("Operations", answer=Status))
    async def ready() -> Response:
        state.check_ready()
        return json_response(Status("ready"))

    @router.get("/version", **documented("Operations", answer=Version))
    async def version() -> Response:
        return json_response(Version(context.config.version))

    @router.get("/load", **documented("Operations", answer=Load))
    async def load(request: Request) -> Response:
        engine, _ = state.serving()
        stats = engine.stats()
        used, total = stats.num_blocks_used, stats.num_blocks_total
        if OPERATE not in lifetime_of(request).scopes:
            used = rounded_blocks(used, total)
        kv_usage = round(used / max(total, 1), 4)
        running, waiting = stats.num_requests_running, stats.num_requests_waiting
        return json_response(Load(running, waiting, kv_usage, state.admission.in_flight))

    @router.post("/reset_prefix_cache", **documented("Operations", answer=Status))
    async def reset_prefix_cache() -> Response:
        engine, _ = state.serving()
        engine.reset_prefix_cache()
        return json_response(Status("ok"))

    @router.get("/metrics", **documented("Operations", media_type="text/plain"))
    async def metrics() -> Response:
        body, content_type = context.metrics.scrape()
        return Response(body, media_type=content_type)

    return router
