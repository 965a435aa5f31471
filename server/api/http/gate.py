"""The gate before all routes: the key and its scopes, or without keys the Host. Open paths are
listed.

What asks the engine and would be refused whatever it asks is refused here, before its body is
parsed: in a flood that is what most requests cost.
"""

from collections.abc import Callable, MutableMapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys, HostCheck, open_paths, scope_of
from thirdeye.server.api.http.error_envelope import MESSAGES_PATH
from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.request_scope import lifetime_in
from thirdeye.server.errors import ApiError

# Routes whose every answer wants a place in the engine.
ENGINE_PATHS = frozenset(
    {
        *(
            prefix + path
            for prefix in ("", "/v1")
            for path in ("/completions", "/chat/completions")
        ),
        *(prefix + path for prefix in ("", "/v1") for path in ("/embeddings", "/responses")),
        *("/api/chat", "/api/generate", "/api/embed", "/api/embeddings"),
        *(MESSAGES_PATH, "/v1/verify"),
    }
)
CheckRoom = Callable[[str, MutableMapping[str, str]], None]


class Gate:
    """Whom it lets in. Looks at the path the router will see and at nothing that is put together
    from headers."""

    def __init__(self, config: ApiConfig, keys: ApiKeys, check_room: CheckRoom) -> None:
        """`check_room`, of a caller and the headers of its answer, raises `ApiError`."""
        self._check_room = check_room
        self._keys = keys
        self._caller_header = config.caller_header
        self._open_paths = open_paths(open_metrics=config.open_metrics)
        self._hosts = HostCheck(None if self._keys else config.allowed_hosts, config.cors_origins)

    def check(self, scope: Scope) -> None:
        """Raises `ApiError` for whoever may not ask this."""
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

    def check_room(self, scope: Scope) -> None:
        """Raises `ApiError` for what asks the engine and would hear it whatever it asks."""
        if is_for_engine(scope["method"], scope["path"]):
            lifetime = lifetime_in(scope)
            try:
                self._check_room(lifetime.caller, lifetime.headers)
            except ApiError:
                lifetime.route = scope["path"]
                raise


def is_for_engine(method: str, path: str) -> bool:
    return method == "POST" and path in ENGINE_PATHS


class GateMiddleware:
    def __init__(self, app: ASGIApp, gate: Gate, max_body_bytes: int) -> None:
        self._app = app
        self._gate = gate
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._gate.check(scope)
            except ApiError as error:
                await error_response(error, scope)(scope, receive, send)
                return
            try:
                self._gate.check_room(scope)
            except ApiError as error:
                if await self._discard_body(receive):
                    await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _discard_body(self, receive: Receive) -> bool:
        """Whoever still sends would not read its answer from a connection that closes. False: gone.
        What is longer than any body may be hears it all the same."""
        num_bytes = 0
        while num_bytes <= self._max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            num_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        return True
