"""Hands each request to the routes of the model that it names, once that model is there.

A body that names a model loads it, and holds it until its answer has ended. What only looks at a
running engine (`GET`, with `?model=NAME`, else the first model) loads and holds nothing.
"""

from functools import partial
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from thirdeye.server.api.generation.respond import unless_gone
from thirdeye.server.api.http.auth import check_scope
from thirdeye.server.api.http.gate import ENGINE_PATHS
from thirdeye.server.api.http.json_body import read_body
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.ollama.answers import Shape, chat_answer, text_answer
from thirdeye.server.api.ollama.elsewhere import INSTEAD
from thirdeye.server.api.ollama.routes import answer_to_nothing
from thirdeye.server.api.ollama.schema import OllamaAsked, OllamaChatRequest, OllamaGenerateRequest
from thirdeye.server.api.pool.keep_alive import read_keep_alive
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.pool.request_head import RequestHead, head_of, replayed
from thirdeye.server.api.requests.pydantic_errors import missing
from thirdeye.server.api.state.context import Context
from thirdeye.server.errors import ResourceNotFound, ServiceUnavailable, come_back_in
from thirdeye.server.settings.api_keys import OPERATE

LOOKING = frozenset({"/reset_prefix_cache"})  # though it is a POST
OF_NO_MODEL = ("/version", "/api/version", *(path.partition("{")[0] for path in INSTEAD))
OF_OLLAMA = "/api/"
ASK_NOTHING: dict[str, tuple[type[OllamaAsked], Shape]] = {
    "/api/chat": (OllamaChatRequest, chat_answer),
    "/api/generate": (OllamaGenerateRequest, text_answer),
}


class ModelDispatch(BaseRoute):
    """Matches every path: it comes behind the routes of the pool's own."""

    def __init__(self, pool: ModelPool, context: Context) -> None:
        self._pool, self._context = pool, context

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "http" else Match.NONE), {}

    def url_path_for(self, name: str, /, **_: object) -> "NoMatchFound":  # type: ignore[override]
        raise NoMatchFound(name, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        default = self._pool.default.router
        is_known = any(route.matches(scope)[0] is Match.FULL for route in default.routes)
        if not is_known or scope["path"].startswith(OF_NO_MODEL):
            await default(scope, receive, send)
        elif scope["method"] == "GET" or scope["path"] in LOOKING:
            await self._look(request, send)
        else:
            await self._ask(request, send)

    async def _look(self, request: Request, send: Send) -> None:
        scope = request.scope
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        names = [value for name, value in query if name == "model"]
        scope["query_string"] = urlencode([p for p in query if p[0] != "model"]).encode()
        member = self._pool.find(names[-1] if names else None)
        if self._pool.books(member).phase is not ModelPhase.READY:
            raise ServiceUnavailable(
                f"The model '{member.name}' is not loaded ({self._pool.progress(member)}); "
                "'?model=NAME' looks at another.",
                code="model_not_loaded",
                headers=come_back_in(5),
            )
        lifetime_of(request).on_response = member.metrics.responded
        await member.router(scope, request.receive, send)

    async def _ask(self, request: Request, send: Send) -> None:
        config, scope, lifetime = self._context.config, request.scope, lifetime_of(request)
        data = await read_body(request, config.max_body_bytes)
        head = head_of(data)
        if config.require_model and head.model_name is None:
            raise missing("model")
        member = self._find(head)
        again = replayed(data, request.receive)
        keep_alive = None
        if scope["path"].startswith(OF_OLLAMA):
            keep_alive = read_keep_alive(head.keep_alive)
            if scope["path"] in ASK_NOTHING and keep_alive == 0 and head.asks_nothing:
                check_scope(lifetime.caller, lifetime.scopes, OPERATE)
                await self._unload(Request(scope, again), member, send)
                return
            if OPERATE in lifetime.scopes:
                lifetime.obeyed_params.add("keep_alive")
            else:  # how long a model stays is not for one of those who share it to say
                keep_alive = None
        lifetime.on_response = member.metrics.responded
        acquire = partial(self._pool.acquire, member, lifetime.at_end, keep_alive, lifetime.caller)
        if self._pool.books(member).is_open:
            if scope["path"] in ENGINE_PATHS:  # before all of the body is parsed
                member.state.check_room(lifetime.caller, lifetime.headers)
            await acquire()
        else:
            await unless_gone(request, acquire())
        await member.router(scope, again, send)

    async def _unload(self, request: Request, member: PoolMember, send: Send) -> None:
        """Ollama's way to say so; a pinned model stays."""
        schema, shape = ASK_NOTHING[request.scope["path"]]
        body = await self._context.bodies.read(request, schema)
        is_pinned = member.terms.is_pinned
        if not is_pinned:
            lifetime_of(request).obeyed_params.add("keep_alive")
            self._pool.unload(member)
        answer = answer_to_nothing(
            body.model or member.name, shape, "load" if is_pinned else "unload"
        )
        await answer(request.scope, request.receive, send)

    def _find(self, head: RequestHead) -> PoolMember:
        """A receipt of a model that is not here is shown to some model, which says so."""
        try:
            return self._pool.find(head.model_name)
        except ResourceNotFound:
            if head.receipt is None:
                raise
            return self._pool.default
