"""Health, load and metrics of all models of a pool."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.admin.ops import Load, Status
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_metrics import scrape
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import Phase
from thirdeye.server.api.state.shared_totals import rounded_blocks
from thirdeye.server.errors import ServiceUnavailable
from thirdeye.server.settings.api_keys import OPERATE


def operator_routes(pool: ModelPool, state: PoolState, context: Context) -> APIRouter:
    router = APIRouter(include_in_schema=False)  # the document has them as of one model

    @router.get("/ping")
    @router.get("/health")
    async def health() -> Response:
        if reason := state.health():
            raise ServiceUnavailable(f"Not healthy: {reason}.", code="unhealthy")
        if state.phase is Phase.LOADING:
            state.check_ready()  # raises with the progress
        return json_response(Status("ok"))

    @router.get("/ready")
    async def ready() -> Response:
        state.check_ready()
        return json_response(Status("ready"))

    @router.get("/load")
    async def sum_of_loads(request: Request) -> Response:
        engines = [m.state.engine for m in pool.members.values() if m.state.engine is not None]
        stats = [engine.stats() for engine in engines]
        used = sum(one.num_blocks_used for one in stats)
        total = sum(one.num_blocks_total for one in stats)
        if OPERATE not in lifetime_of(request).scopes:
            used = rounded_blocks(used, total)
        return json_response(
            Load(
                sum(one.num_requests_running for one in stats),
                sum(one.num_requests_waiting for one in stats),
                round(used / max(total, 1), 4),
                pool.in_flight,
            )
        )

    @router.get("/metrics")
    async def metrics() -> Response:
        body, content_type = scrape(pool, context.metrics)
        return Response(body, media_type=content_type)

    return router
