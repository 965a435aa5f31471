"""The refusals of a flood, whole, before anything is started for them: no task, no layer, no body.

In a flood most of what a server does is to say no. The socket's side asks here before it calls the
application (`server/asgi_extension.py`). What comes out is what the layers would have said, and it
leaves the same behind: it is made of their parts. Whoever is not refused, or wants what a layer
between does, goes the long way.
"""

from collections.abc import Callable
from functools import partial

import msgspec
from starlette.types import Scope

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.error_envelope import error_body
from thirdeye.server.api.http.gate import Gate, is_for_engine
from thirdeye.server.api.http.request_scope import Lifetimes, lifetime_in, without_slash
from thirdeye.server.asgi_extension import Refusal
from thirdeye.server.errors import ApiError


class EarlyRefusals:
    """Judges a request by its head. It is asked once for each."""

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

    def __call__(self, scope: Scope) -> Refusal | None:
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

    def _told(self, error: ApiError, inner: Scope) -> Refusal:
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
        return Refusal(error.status, encoded, body, partial(self._lifetimes.end, inner))
