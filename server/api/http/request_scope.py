"""The life of one HTTP request, as an outer ASGI layer: its id, its end, and the last line of
defence.

Everything a request holds (its permit, its log line) is given back once the last byte of its
answer is out, or the ASGI call ends without one, streamed or not, finished or cut: exactly once.
Pure ASGI, since Starlette's BaseHTTPMiddleware would put itself between a stream and its client.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from secrets import token_hex
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thirdeye.server.api.http.error_envelope import failure_of, is_anthropic
from thirdeye.server.api.http.revocation import Revocation
from thirdeye.server.errors import ApiError
from thirdeye.server.logs import LogFields
from thirdeye.server.tracing.request_trace import NO_TRACE, NO_TRACER, RequestTrace, Tracer

_KEY = "thirdeye.lifetime"
MAX_NAMES, MAX_NAME_CHARS = 16, 120  # in the header `X-Ignored-Params`
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Lifetime:
    """One request's id, clock, and what is to be done at its end."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.caller = ""  # a short name of the API key, `KEY:NAME` behind a gateway's
        self.scopes: frozenset[str] = frozenset()  # what the caller may do
        self.revocation = Revocation()  # turns if the caller's key is taken away
        self.trace: RequestTrace = NO_TRACE
        self.route = ""  # of one that was refused before the router: a path that is listed
        self.headers: dict[str, str] = {}  # for the answer, whatever it will be
        self.ignored_params: set[str] = set()  # fields that did not change it
        self.obeyed_params: set[str] = set()  # fields among these that did something all the same
        self.on_response: Callable[[str, int], None] | None = None  # counts it in the app's place
        self._started = time.monotonic()
        self._stack = ExitStack()

    def at_end(self, action: Callable[[], object]) -> None:
        self._stack.callback(action)

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000

    def end(self) -> None:
        self._stack.close()


def lifetime_of(request: Request) -> Lifetime:
    return lifetime_in(request.scope)


def lifetime_in(scope: Scope) -> Lifetime:
    return cast(Lifetime, scope["state"][_KEY])


class Lifetimes:
    """What every request is given at its beginning, its answer on the way, and what both leave at
    their end: a count, a trace and, with `access_log`, a line."""

    def __init__(
        self,
        on_response: Callable[[str, int], None],
        access_log: bool = False,
        tracer: Tracer = NO_TRACER,
        is_named_outside: bool = False,
    ) -> None:
        """With `is_named_outside` a layer around this one names the request and its answer, as Ray
        Serve does: no second header is sent."""
        self.on_response = on_response
        self.has_access_log = access_log
        self._tracer = tracer
        self.is_named_outside = is_named_outside

    def begin(self, scope: Scope) -> Scope:
        """For the layers within: with a lifetime, a path without a slash at its end, and GET in
        HEAD's place."""
        headers = Headers(scope=scope)
        lifetime = Lifetime(_request_id(headers))
        path = without_slash(scope["path"])
        lifetime.trace = self._tracer.begin(scope["method"], path, headers)
        state = dict(scope.get("state") or {}) | {_KEY: lifetime}
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return {**scope, "state": state, "method": method, "path": path}

    def headers(self, inner: Scope) -> dict[str, str]:
        """What goes into the head of the answer, whatever it says."""
        lifetime = lifetime_in(inner)
        found = dict(lifetime.headers)
        if ignored := lifetime.ignored_params - lifetime.obeyed_params:
            found["X-Ignored-Params"] = header_list(ignored)
        is_named = self.is_named_outside and "x-request-id" in Headers(scope=inner)
        return found | id_headers(inner["path"], lifetime.request_id, is_named=is_named)

    @property
    def leave_a_count_alone(self) -> bool:
        """Whether nothing else is left of a request that was refused: no line and no trace."""
        return not self.has_access_log and self._tracer is NO_TRACER

    def end(self, inner: Scope, status: int) -> None:
        """`status`: 0 if no answer began."""
        lifetime = lifetime_in(inner)
        lifetime.end()
        route = lifetime.route or _route_of(inner)
        (lifetime.on_response or self.on_response)(route, status)
        lifetime.trace.describe({"thirdeye.request_id": lifetime.request_id})
        if lifetime.caller:
            lifetime.trace.describe({"thirdeye.key": lifetime.caller})
        lifetime.trace.end(route, status)
        if self.has_access_log:
            log_access(inner, status, lifetime)


class LifetimeMiddleware:
    """`x-request-id` on every answer, HEAD wherever GET works, a slash at the end of a path taken
    off, bugs as a 500 in our envelope."""

    def __init__(
        self,
        app: ASGIApp,
        lifetimes: Lifetimes,
        error_response: Callable[[ApiError, Scope], Response],
    ) -> None:
        self._app = app
        self._lifetimes = lifetimes
        self._error_response = error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = self._lifetimes.begin(scope)
        request_id = lifetime_in(inner).request_id
        is_head = scope["method"] == "HEAD"
        status = 0

        async def outer_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(self._lifetimes.headers(inner))
            elif is_head:
                message = {**message, "body": b""}
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                lifetime_in(inner).end()  # before its client can ask again on this connection

        try:
            await self._app(inner, receive, outer_send)
        except TimeoutError:
            # A reader that stalled past the send timeout: the server closes the connection.
            logging.getLogger("thirdeye.api").warning("stalled reader in %s", request_id)
        except Exception as bug:
            failure = failure_of(bug, request_id)
            if not status:
                response = self._error_response(failure, inner)
                await response(inner, receive, outer_send)
        finally:
            self._lifetimes.end(inner, status)


def log_access(scope: Scope, status: int, lifetime: Lifetime) -> None:
    """Who asked for what and what became of it. No query and no header: they may hold anything.
    Status 0: the client left, or the answer was cut, before it began."""
    client = scope.get("client")
    fields = {
        "id": lifetime.request_id,
        **({"key": lifetime.caller} if lifetime.caller else {}),
        **({"client": client[0]} if client else {}),
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(lifetime.elapsed_ms(), 1),
    }
    logging.getLogger("thirdeye.access").info("access %s", LogFields(fields))


def id_headers(path: str, request_id: str, *, is_named: bool = False) -> dict[str, str]:
    """What names an answer. `is_named`: something outside does it, in its own way."""
    found = {} if is_named else {"x-request-id": request_id}
    return found | ({"request-id": request_id} if is_anthropic(path) else {})


def header_list(names: Iterable[str]) -> str:
    """Names from a caller as a header's value: sorted, safe and short."""
    shown = sorted({safe_name(name) for name in names})
    more = ["..."] if len(shown) > MAX_NAMES else []
    return ", ".join(shown[:MAX_NAMES] + more)


def safe_name(name: str) -> str:
    is_safe = str.isalnum
    return "".join(
        c if c.isascii() and (is_safe(c) or c in "_-.[]$") else "?" for c in name[:MAX_NAME_CHARS]
    )


def without_slash(path: str) -> str:
    """`/v1/models/` is `/v1/models`, for the gate and the router alike."""
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _CLIENT_ID.fullmatch(given) else new_id()


def new_id() -> str:
    return f"req_{token_hex(16)}"


def _route_of(scope: Scope) -> str:
    """The route's template, never the raw path: metrics must not grow with what callers type."""
    return cast(str, getattr(scope.get("route"), "path", "other"))
