"""For operators of a pool: load, unload, put to sleep, wake up.

To unload and to put to sleep is the same: the engine's process ends, and its memory is free.
"""

from typing import Literal

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.respond import unless_gone
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.openai.models import ModelStateName
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.state.context import Context
from thirdeye.server.errors import InvalidRequest

MODEL = {"name": "model", "schema": {"type": "string"}}


class ModelNameRequest(Strict):
    model: str


class ModelMoved(Struct, kw_only=True):
    """`state` is what it is in now: a model in use leaves when its last request has ended."""

    success: Literal[True] = True
    model: str
    state: ModelStateName


def move_routes(pool: ModelPool, context: Context) -> APIRouter:
    router = APIRouter()

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

    @router.post("/models/load", **documented("Models", ModelNameRequest, answer=ModelMoved))
    async def load(request: Request) -> Response:
        body = await context.bodies.read(request, ModelNameRequest)
        return await load_one(request, pool.find(body.model))

    @router.post("/models/unload", **documented("Models", ModelNameRequest, answer=ModelMoved))
    async def unload(request: Request) -> Response:
        body = await context.bodies.read(request, ModelNameRequest)
        return unload_one(pool.find(body.model))

    @router.post("/sleep", **documented("Models", answer=ModelMoved, query=MODEL))
    async def sleep(request: Request) -> Response:
        return unload_one(pool.find(asked(request)))

    @router.post("/wake_up", **documented("Models", answer=ModelMoved, query=MODEL))
    async def wake_up(request: Request) -> Response:
        return await load_one(request, pool.find(asked(request)))

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
