"""The gate before all routes: the key, or without keys the Host. Open paths are listed."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import OPEN_PATHS, ApiKeys, HostCheck
from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.request_scope import lifetime_in
from thirdeye.server.errors import ApiError


class GateMiddleware:
    """Looks at the path the router will see and at nothing that is put together from headers."""

    def __init__(self, app: ASGIApp, config: ApiConfig) -> None:
        self._app = app
        self._keys = ApiKeys(config.api_keys)
        self._hosts = HostCheck(None if self._keys else config.allowed_hosts, config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._hosts.check(headers, scope.get("http_version", "1.1"))
        if scope["path"] not in OPEN_PATHS:
            lifetime = lifetime_in(scope)
            lifetime.caller = self._keys.caller(headers)
            lifetime.scopes = self._keys.scopes
