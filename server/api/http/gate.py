"""The gate before all routes: the key and its scopes, or without keys the Host. Open paths are
listed.

What asks the engine and would be refused whatever it asks is refused here, before its body is
parsed, and in a full house before anything is started for it.
"""

from collections.abc import Callable, MutableMapping
from functools import partial

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys, HostCheck, open_paths, scope_of
from thirdeye.server.api.http.error_envelope import MESSAGES_PATH, error_body
from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.request_scope import Lifetimes, lifetime_in, without_slash
from thirdeye.server.asgi_extension import EarlyAnswer
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


class EarlyRefusals:
    """The refusals of a flood, whole, before anything is started for them: no task, no layer.

    In a flood most of what a server does is to say no. The socket's side asks here before it calls
    the application. What comes out is what the layers would have said, and it leaves the same
    behind: it is made of their parts. Whoever is not refused, or wants what a layer between does,
    goes the long way.
    """

    def __init__(
        self, gate: Gate, lifetimes: Lifetimes, is_full: Callable[[], bool], config: ApiConfig
    ) -> None:
        """`is_full`: whether nobody gets in now; it may change its mind at once."""
        self._gate = gate
        self._lifetimes = lifetimes
        self._is_full = is_full
        self._others: set[bytes] = set()  # headers that a layer would obey
        self._others |= {b"origin"} if config.cors_origins else set()
        self._others |= {b"x-forwarded-for"} if lifetimes.has_access_log else set()
        self.max_body_bytes = config.max_body_bytes

    def __call__(self, scope: Scope) -> EarlyAnswer | None:
        """None: it may be let in, or the layers know better."""
        if not is_for_engine(scope["method"], without_slash(scope["path"])) or not self._is_full():
            return None
        if self._others and not self._others.isdisjoint(name for name, _ in scope["headers"]):
            return None
        inner = self._lifetimes.begin(scope)
        try:
            self._gate.check(inner)
            self._gate.check_room(inner)
        except ApiError as error:
            return self._told(error, inner)
        lifetime_in(inner).end()  # a place came free just now
        return None

    def _told(self, error: ApiError, inner: Scope) -> EarlyAnswer:
        body = msgspec.json.encode(error_body(error, inner["path"], lifetime_in(inner).request_id))
        headers = {
            **error.headers,
            "content-length": str(len(body)),
            "content-type": "application/json",
            **self._lifetimes.headers(inner),
        }
        encoded = [
            (name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()
        ]
        return EarlyAnswer(error.status, encoded, body, partial(self._lifetimes.end, inner))
