"""For operators of a pool: load, unload, sleep, wake up; health, load and metrics of them all.

To unload and to put to sleep is the same: the engine's process ends, and its memory is free.
"""

from typing import Literal

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.admin.ops import Load, Status
from thirdeye.server.api.generation.respond import unless_gone
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.models import ModelStateName
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.pool.pool_metrics import scrape
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import Phase
from thirdeye.server.api.state.shared_totals import rounded_blocks
from thirdeye.server.errors import InvalidRequest, ServiceUnavailable
from thirdeye.server.settings.api_keys import OPERATE


class ModelNameRequest(Strict):
    model: str


class ModelMoved(Struct, kw_only=True):
    """`state` is what it is in now: a model in use leaves when its last request has ended."""

    success: Literal[True] = True
    model: str
    state: ModelStateName


def operator_routes(pool: ModelPool, state: PoolState, context: Context) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    def moved(member: PoolMember) -> Response:
        return json_response(ModelMoved(model=member.name, state=pool.books(member).phase.value))

    async def load_one(request: Request, member: PoolMember) -> Response:
        await unless_gone(request, pool.load(member))
        return moved(member)

    def unload_one(member: PoolMember) -> Response:
        if member.terms.is_pinned:
            raise InvalidRequest(
                f"'model' {member.name} is pinned: it stays until the server ends.",
                param="model",
                code="unsupported_value",
            )
        pool.unload(member)
        return moved(member)

    @router.post("/models/load")
    async def load(request: Request) -> Response:
        body = await context.bodies.read(request, ModelNameRequest)
        return await load_one(request, pool.find(body.model))

    @router.post("/models/unload")
    async def unload(request: Request) -> Response:
        body = await context.bodies.read(request, ModelNameRequest)
        return unload_one(pool.find(body.model))

    @router.post("/sleep")
    async def sleep(request: Request) -> Response:
        return unload_one(pool.find(asked(request)))

    @router.post("/wake_up")
    async def wake_up(request: Request) -> Response:
        return await load_one(request, pool.find(asked(request)))

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


def asked(request: Request) -> str | None:
    """`?model=NAME`, else the first. vLLM's `level` and `tags` change nothing. Raises
    `InvalidRequest`."""
    for name in request.query_params.keys() - {"model", "level", "tags"}:
        shown = "".join(c if c.isprintable() else "?" for c in name[:64])
        raise InvalidRequest(
            f"Unknown query parameter '{shown}'.", param=shown, code="unknown_parameter"
        )
    return request.query_params.get("model")
