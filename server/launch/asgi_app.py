"""The HTTP application: routes, error handlers, outer layers. It takes its engine as an argument.

    app = create_app(state, ApiConfig(api_keys=("secret",)))

The state may still be loading: the page, `/health` and 503s are served meanwhile, and
`state.ready(...)` opens the rest. Layers, from outside in: lifetime (id, end, bugs), CORS if
some origin is allowed, gate (key, Host), router. In a full house `refuse_early` stands before all.
"""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from thirdeye.server.api.admin.adapter_routes import adapter_routes
from thirdeye.server.api.admin.loads import loads_routes
from thirdeye.server.api.admin.ops import ops_routes
from thirdeye.server.api.admin.pages import page_routes
from thirdeye.server.api.anthropic.routes import messages_routes
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys
from thirdeye.server.api.http.cors import CorsMiddleware
from thirdeye.server.api.http.error_handlers import (
    error_response,
    on_api_error,
    on_client_gone,
    on_http_exception,
)
from thirdeye.server.api.http.gate import CheckRoom, EarlyRefusals, Gate, GateMiddleware
from thirdeye.server.api.http.rate_limits import Rates
from thirdeye.server.api.http.request_scope import LifetimeMiddleware, Lifetimes
from thirdeye.server.api.introspection.inspect_route import inspect_routes
from thirdeye.server.api.introspection.prompt_routes import prompt_routes
from thirdeye.server.api.introspection.timeline_route import timeline_routes
from thirdeye.server.api.ollama.elsewhere import ollama_refusals
from thirdeye.server.api.ollama.embed import ollama_embedding_routes
from thirdeye.server.api.ollama.model_routes import ollama_model_routes
from thirdeye.server.api.ollama.routes import ollama_routes
from thirdeye.server.api.openai.chat import chat_routes
from thirdeye.server.api.openai.completions import completion_routes
from thirdeye.server.api.openai.embeddings import embedding_routes
from thirdeye.server.api.openai.models import model_routes
from thirdeye.server.api.openai.tokenize import token_routes
from thirdeye.server.api.openapi.access import show_access
from thirdeye.server.api.openapi.docs_page import docs_routes
from thirdeye.server.api.openapi.document import document
from thirdeye.server.api.openapi.served_model import show_model
from thirdeye.server.api.openapi.served_models import show_models
from thirdeye.server.api.pool.listing_routes import listing_routes
from thirdeye.server.api.pool.model_dispatch import ModelDispatch
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.move_routes import move_routes
from thirdeye.server.api.pool.operator_routes import operator_routes
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.api.receipts.verify import verify_routes
from thirdeye.server.api.requests.operator_limits import show_ceilings
from thirdeye.server.api.responses.routes import responses_routes
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel, ServerState
from thirdeye.server.asgi_extension import RefuseEarly
from thirdeye.server.errors import ApiError, ClientGone
from thirdeye.server.tracing.request_trace import NO_TRACER, Tracer

ShowModels = Callable[[dict[str, Any]], dict[str, Any]]


class App(FastAPI):
    """FastAPI with our OpenAPI document, which knows the model once there is one."""

    def __init__(
        self, served: ServerState, config: ApiConfig, show: ShowModels, **options: Any
    ) -> None:
        super().__init__(openapi_url=None, **options)
        self._served, self._config, self._show = served, config, show
        self.refuse_early: RefuseEarly | None = None
        self._encoded: tuple[ServedModel | None, bytes] | None = None
        self.add_route("/openapi.json", self._send_document, ["GET"], include_in_schema=False)

    async def _send_document(self, _: Request) -> Response:
        return Response(self.document_bytes(), media_type="application/json")

    def document_bytes(self) -> bytes:
        """The document as it is sent, made once for each model: it costs 10 ms, and anybody may
        ask for it."""
        model = self._served.model
        if self._encoded is None or self._encoded[0] is not model:
            self._encoded = (model, msgspec.json.encode(self.openapi()))
        return self._encoded[1]

    def openapi(self) -> dict[str, Any]:
        found = self._show(show_model(document(self), self._served.model))
        return show_access(show_ceilings(found, self._config), self._config)


def model_routers(context: Context) -> list[APIRouter]:
    """Every route that is about the model."""
    return [
        chat_routes(context),
        completion_routes(context),
        embedding_routes(context),
        responses_routes(context),
        messages_routes(context),
        ollama_routes(context),
        ollama_embedding_routes(context),
        ollama_model_routes(context),
        ollama_refusals(),
        model_routes(context),
        token_routes(context),
        inspect_routes(context),
        prompt_routes(context),
        timeline_routes(context),
        verify_routes(context),
        ops_routes(context),
        loads_routes(context),
        adapter_routes(context),
    ]


def model_router(context: Context) -> APIRouter:
    """The same as one, for a model beside others: each level of routers costs an app 10 ms."""
    router = APIRouter()
    for routes in model_routers(context):
        router.include_router(routes)
    return router


def create_app(
    state: ServerState, config: ApiConfig | None = None, tracer: Tracer = NO_TRACER
) -> App:
    """The app over `state`. Two apps share nothing."""
    context = Context.of(state, config or ApiConfig())
    return app_with(all_routers(context), context, tracer)


def all_routers(context: Context) -> list[APIRouter]:
    """Of an app over one model: to make them is most of what an app costs."""
    return [*model_routers(context), page_routes(), docs_routes()]


def app_with(routers: Sequence[APIRouter], context: Context, tracer: Tracer = NO_TRACER) -> App:
    """The app over one model. `routers`: those that `all_routers` made for this context."""
    return assemble(context, routers, tracer, context.state.check_room)


def create_pool_app(
    pool: ModelPool, state: PoolState, config: ApiConfig | None = None, tracer: Tracer = NO_TRACER
) -> App:
    """The app over several models, whose limits and keys are its own."""
    context = Context.of(ServerState(), config or ApiConfig())
    dispatch = ModelDispatch(pool, context)
    routers: list[APIRouter | BaseRoute] = [
        listing_routes(pool, context),
        operator_routes(pool, state, context),
        move_routes(pool, context),
        page_routes(),
        docs_routes(),
        dispatch,
        *model_routers(context),
    ]

    def check_room(caller: str, headers: MutableMapping[str, str]) -> None:
        """Whether the model has room is seen once it is known: in `ModelDispatch`."""
        state.check_open()
        context.state.rates.open(caller, headers)

    def show(document: dict[str, Any]) -> dict[str, Any]:
        models = [member.model for member in pool.members.values()]
        names = [name for model in models for name in model.names]
        return show_models(
            document, names, are_all=not any(model.name_patterns for model in models)
        )

    app = assemble(context, routers, tracer, check_room, show)
    for member in pool.members.values():
        member.state.streams = state.streams
        member.state.rates, member.state.keys = context.state.rates, context.state.keys
        member.state.shares_rates = True
        member.state.admission.max_wait = context.config.max_queue_time
        member.state.name = member.name
    return app


def assemble(
    context: Context,
    routers: Sequence[APIRouter | BaseRoute],
    tracer: Tracer,
    check_room: CheckRoom,
    show: ShowModels = lambda document: document,
) -> App:
    """The app of these routes, the first that matches, inside all that requests pass before.
    `show` adds to the document."""
    state = context.state
    state.rates = Rates(
        {
            "requests": context.config.requests_per_minute,
            "tokens": context.config.tokens_per_minute,
        },
        at_once=context.config.concurrent_requests,
    )
    state.admission.max_wait = context.config.max_queue_time
    state.keys = ApiKeys(context.config.api_keys)
    app = App(
        state,
        context.config,
        show,
        title="thirdeye",
        version=context.config.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        if isinstance(router, APIRouter):
            app.include_router(router)
        else:
            app.router.routes.append(router)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(ClientGone, on_client_gone)
    app.add_exception_handler(HTTPException, on_http_exception)
    lifetimes = Lifetimes(
        context.metrics.responded,
        access_log=context.config.access_log,
        is_named_outside=context.config.is_named_outside,
        tracer=tracer,
    )
    gate = Gate(context.config, state.keys, check_room)
    app.refuse_early = EarlyRefusals(gate, lifetimes, state.is_full, state.refusal, context.config)
    app.add_middleware(GateMiddleware, gate=gate, max_body_bytes=context.config.max_body_bytes)
    if context.config.cors_origins:
        app.add_middleware(CorsMiddleware, context.config.cors_origins)
    app.add_middleware(LifetimeMiddleware, lifetimes=lifetimes, error_response=error_response)
    return app
