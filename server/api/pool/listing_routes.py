"""What a pool serves, loaded or not: OpenAI's and Ollama's lists. Nothing here loads a model."""

from datetime import UTC, datetime

from fastapi import APIRouter
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.ollama.answers import rfc3339
from thirdeye.server.api.ollama.model_cards import OllamaModels, OllamaProcesses
from thirdeye.server.api.ollama.model_routes import NEVER, entry_of, running, shown
from thirdeye.server.api.ollama.schema import OllamaShowRequest
from thirdeye.server.api.openai.models import ModelCard, ModelList, card_of
from thirdeye.server.api.pool.keep_alive import MOST
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import named


def listing_routes(pool: ModelPool, context: Context) -> APIRouter:
    router = APIRouter(include_in_schema=False)  # the document has them as of one model

    @router.get("/models")
    @router.get("/v1/models")
    async def list_models() -> Response:
        cards = [card(pool, one, name) for one, name in names(pool)]
        return json_response(ModelList(data=cards))

    @router.get("/v1/models/{model_id:path}")
    async def retrieve_model(request: Request) -> Response:
        asked = request.path_params["model_id"] or "/"
        model, name = named(asked, [one.model for one in pool.members.values()])
        return json_response(card(pool, pool.members[model.names[0]], name))

    @router.get("/api/tags")
    async def tags() -> Response:
        found = [entry_of(name, one.model, one.engine_info) for one, name in names(pool)]
        return json_response(OllamaModels(found))

    @router.get("/api/ps")
    async def processes() -> Response:
        ready = [one for one in pool.members.values() if one.state.engine is not None]
        return json_response(
            OllamaProcesses(
                [
                    running(one.model, one.engine_info, expiry(pool, one))
                    for one in ready
                    if pool.books(one).phase is ModelPhase.READY
                ]
            )
        )

    @router.post("/api/show")
    async def show(request: Request) -> Response:
        body = await context.bodies.read(request, OllamaShowRequest)
        member = pool.find(body.model)
        return json_response(shown(member.model, member.engine_info))

    return router


def names(pool: ModelPool) -> list[tuple[PoolMember, str]]:
    return [(one, name) for one in pool.members.values() for name in one.model.names]


def card(pool: ModelPool, member: PoolMember, name: str) -> ModelCard:
    phase = pool.books(member).phase
    is_loading = phase is ModelPhase.LOADING
    progress = member.state.detail if is_loading else UNSET
    return card_of(name, member.model, phase.value, progress)


def expiry(pool: ModelPool, member: PoolMember) -> str:
    """When it will be put to sleep if nobody uses it, by the clock on the wall."""
    seconds = pool.seconds_to_sleep(member)
    if seconds is None:
        return NEVER
    return rfc3339(int(datetime.now(UTC).timestamp() + min(seconds, MOST)))
