"""The gate before all routes: the key and its scopes, or without keys the Host. Open paths are
listed."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys, HostCheck, open_paths, scope_of
from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.request_scope import lifetime_in
from thirdeye.server.errors import ApiError


class GateMiddleware:
    """Looks at the path the router will see and at nothing that is put together from headers."""

    def __init__(self, app: ASGIApp, config: ApiConfig, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys
        self._caller_header = config.caller_header
        self._open_paths = open_paths(open_metrics=config.open_metrics)
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
        if scope["path"] not in self._open_paths:
            caller = self._keys.caller(headers)
            if (header := self._caller_header) is not None:
                caller = caller.named(headers.getlist(header), header)
            lifetime = lifetime_in(scope)
            lifetime.caller, lifetime.scopes = caller.name, caller.scopes
            caller.check(scope_of(scope["path"]))
            if self._keys:
                lifetime.revocation, end = self._keys.revocations.begin(caller.digest)
                lifetime.at_end(end)
