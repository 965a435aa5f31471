"""The HTTP application: routes, error handlers, outer layers. It takes its engine as an argument.

    app = create_app(state, ApiConfig(api_keys=("secret",)))

The state may still be loading: the page, `/health` and 503s are served meanwhile, and
`state.ready(...)` opens the rest. Layers, from outside in: lifetime (id, end, bugs), CORS if
some origin is allowed, gate (key, Host), router.
"""

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from server.api.answer import Context
from server.api.ceilings import show_ceilings
from server.api.chat import chat_routes
from server.api.completions import completion_routes
from server.api.config import ApiConfig
from server.api.cors import CorsMiddleware
from server.api.embeddings import embedding_routes
from server.api.gate import GateMiddleware
from server.api.grammars import Grammars
from server.api.handlers import (
    error_response,
    on_api_error,
    on_client_gone,
    on_http_exception,
)
from server.api.inspect import inspect_routes
from server.api.lifetime import LifetimeMiddleware
from server.api.messages.adapter import messages_routes
from server.api.models import model_routes
from server.api.openapi.access import show_access
from server.api.openapi.document import document
from server.api.openapi.model import show_model
from server.api.ops import ops_routes
from server.api.pages import page_routes
from server.api.rates import Rates
from server.api.responses.routes import responses_routes
from server.api.state import ServerState
from server.api.stream import own_the_shutdown
from server.api.timeline import timeline_routes
from server.api.tokens import token_routes
from server.api.verify import verify_routes
from server.errors import ApiError, ClientGone
from server.metrics import Metrics


class App(FastAPI):
    """FastAPI with our OpenAPI document, which knows the model once there is one."""

    def __init__(self, served: ServerState, config: ApiConfig, **options: Any) -> None:
        super().__init__(**options)
        self._served, self._config = served, config

    def openapi(self) -> dict[str, Any]:
        found = show_model(document(self), self._served.model)
        return show_access(show_ceilings(found, self._config), self._config)


def create_app(state: ServerState, config: ApiConfig | None = None) -> FastAPI:
    """The app over `state`. Two apps share nothing."""
    metrics = Metrics(state)
    context = Context(state, config or ApiConfig(), metrics, Grammars(metrics))
    state.rates = Rates(
        {
            "requests": context.config.requests_per_minute,
            "tokens": context.config.tokens_per_minute,
        }
    )
    own_the_shutdown()
    app = App(
        state,
        context.config,
        title="thirdeye",
        version=context.config.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (
        chat_routes(context),
        completion_routes(context),
        embedding_routes(context),
        responses_routes(context),
        messages_routes(context),
        model_routes(context),
        token_routes(context),
        inspect_routes(context),
        timeline_routes(context),
        verify_routes(context),
        ops_routes(context),
        page_routes(),
    ):
        app.include_router(router)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(ClientGone, on_client_gone)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(GateMiddleware, config=context.config)
    if context.config.cors_origins:
        app.add_middleware(CorsMiddleware, context.config.cors_origins)
    app.add_middleware(
        LifetimeMiddleware,
        on_response=context.metrics.responded,
        error_response=error_response,
    )
    return app
