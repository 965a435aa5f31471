"""The gate before all routes: the key and its scopes, or without keys the Host. Open paths are
listed.

What asks the engine and would be refused whatever it asks is refused here, before its body is
parsed, and in a full house before anything is started for it.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys, HostCheck, open_paths, scope_of
from thirdeye.server.api.http.error_envelope import MESSAGES_PATH, error_body
from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.request_scope import (
    Lifetimes,
    id_headers,
    lifetime_in,
    new_id,
    without_slash,
)
from thirdeye.server.asgi_extension import EarlyAnswer, Repeat
from thirdeye.server.errors import ApiError, ServerOverloaded

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
_AN_ID = b"req_" + b"-" * 32  # as long as `new_id`'s are: the body's length is written already
CheckRoom = Callable[[str, MutableMapping[str, str]], None]


class Gate:
    """Whom it lets in. Looks at the path the router will see and at nothing that is put together
    from headers."""

    def __init__(self, config: ApiConfig, keys: ApiKeys, check_room: CheckRoom) -> None:
        """`check_room`, of a caller and the headers of its answer, raises `ApiError`."""
        self._check_room = check_room
        self.keys = keys
        self._caller_header = config.caller_header
        self._open_paths = open_paths(open_metrics=config.open_metrics)
        self._hosts = HostCheck(None if keys else config.allowed_hosts, config.cors_origins)

    def check(self, scope: Scope) -> None:
        """Raises `ApiError` for whoever may not ask this."""
        headers = Headers(scope=scope)
        self._hosts.check(headers, scope.get("http_version", "1.1"))
        if scope["path"] not in self._open_paths:
            caller = self.keys.caller(headers)
            if (header := self._caller_header) is not None:
                caller = caller.named(headers.getlist(header), header)
            lifetime = lifetime_in(scope)
            lifetime.caller, lifetime.scopes = caller.name, caller.scopes
            caller.check(scope_of(scope["path"]))
            if self.keys:
                lifetime.revocation, end = self.keys.revocations.begin(caller.digest)
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
        self,
        gate: Gate,
        lifetimes: Lifetimes,
        is_full: Callable[[], bool],
        refusal: Callable[[], ApiError | None],
        config: ApiConfig,
    ) -> None:
        """`is_full`: whether nobody gets in now; it may change its mind at once. `refusal`: what
        the next one hears whose key has no limits, which is counted; None: that is not certain."""
        self._gate = gate
        self._lifetimes = lifetimes
        self._is_full = is_full
        self._repeated = RepeatedRefusals(gate, refusal, lifetimes.on_response)
        has_limits = config.requests_per_minute or config.tokens_per_minute
        self._may_repeat = (
            lifetimes.leave_a_count_alone
            and not lifetimes.is_named_outside
            and not (has_limits or config.concurrent_requests)
        )
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
        repeat = None
        chose_id = "x-request-id" in Headers(scope=inner)  # and will choose another
        if self._may_repeat and isinstance(error, ServerOverloaded) and not chose_id:
            repeat = self._repeated.to(inner["path"])
        end = partial(self._lifetimes.end, inner)
        return EarlyAnswer(error.status, _encoded(headers), body, end, repeat)


class RepeatedRefusals:
    """A full queue says the same to the same head but for the moment and the answer's id.

    In a flood most heads have been here before, and between two of them the model's weights take
    the processor's caches: what a refusal costs is how much code and data it touches.
    """

    def __init__(
        self,
        gate: Gate,
        refusal: Callable[[], ApiError | None],
        on_response: Callable[[str, int], None],
    ) -> None:
        self._gate, self._refusal, self._on_response = gate, refusal, on_response
        self._written: dict[str, tuple[str, bytes]] = {}  # path -> message, answer without its id

    def to(self, path: str) -> Repeat:
        """For whoever has passed the gate, asked for this path and chose no id."""
        return RepeatedRefusal(self, self._gate.keys.num_changes, path)

    def told(self, num_changes: int, path: str) -> bytes | None:
        """The answer, which is counted; None if it may be another. `num_changes`: of the keys."""
        if num_changes != self._gate.keys.num_changes or (error := self._refusal()) is None:
            return None
        self._on_response(path, error.status)
        message, answer = self._written.get(path, ("", b""))
        if message != error.message:
            answer = _answer_without_id(error, path)
            self._written[path] = (error.message, answer)
        return answer.replace(_AN_ID, new_id().encode())


@dataclass(slots=True)
class RepeatedRefusal:
    refusals: RepeatedRefusals
    num_changes: int  # of the keys, when it passed
    path: str
    status: int = ServerOverloaded.status

    def __call__(self) -> bytes | None:
        return self.refusals.told(self.num_changes, self.path)


def _answer_without_id(error: ApiError, path: str) -> bytes:
    """All of it behind the status line, with `_AN_ID` where its id is to stand."""
    an_id = _AN_ID.decode()
    body = msgspec.json.encode(error_body(error, path, an_id))
    headers = {
        **error.headers,
        "content-length": str(len(body)),
        "content-type": "application/json",
        **id_headers(path, an_id),
    }
    lines = [b"%b: %b\r\n" % pair for pair in _encoded(headers)]
    return b"".join((*lines, b"\r\n", body))


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()]
