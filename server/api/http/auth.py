"""Who may ask: API keys, and, without keys, which Host and Origin a browser may come from.

Deny by default for the whole app, with an exact list of open paths: never "if the path starts with
/v1", and never a URL put together from the Host header. Keys are kept and compared as SHA-256
digests.
"""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers

from thirdeye.server.errors import Forbidden, Unauthorized
from thirdeye.server.web import ASSETS

OPEN_PATHS = frozenset({"/health", "/ping", "/ready", *ASSETS})
USE, INSPECT, OPERATE = "use", "inspect", "operate"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class ApiKeys:
    """The accepted keys. An empty ring accepts everyone."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def scopes(self) -> frozenset[str]:
        """What each key may do. Of several none is the operator's: each sees its own requests."""
        return frozenset({USE, INSPECT} | ({OPERATE} if len(self._digests) < 2 else set()))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def caller(self, headers: Headers) -> str:
        """A short name of the key that was sent ("" without keys). Raises `Unauthorized`."""
        if not self._digests:
            return ""
        key = _sent_key(headers)
        if not key:
            raise Unauthorized(
                "The API key is missing: send it in the header 'Authorization: Bearer KEY' (or "
                "'x-api-key: KEY').",
                headers=_CHALLENGE,
            )
        # Starlette reads headers as Latin-1: encoding them back gives the bytes that were sent.
        digest = hashlib.sha256(key.encode("latin-1")).digest()
        # Every stored key is compared, so that the time tells nothing.
        found = [hmac.compare_digest(digest, stored) for stored in self._digests]
        if not any(found):
            raise Unauthorized(
                "The API key is not accepted.", code="invalid_api_key", headers=_CHALLENGE
            )
        return digest.hex()[:16]


def _sent_key(headers: Headers) -> str:
    """The key as OpenAI's clients send it, or else as Anthropic's do; "" if there is no one key."""
    if values := headers.getlist("authorization"):
        scheme, _, key = (values[0] if len(values) == 1 else "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""
    values = headers.getlist("x-api-key")
    return values[0].strip() if len(values) == 1 else ""


class HostCheck:
    """Refuses foreign Hosts and Origins: a web page must not reach a keyless local server.

    With `allowed` None every host passes (the server has keys, or its owner exposed it on purpose).
    """

    def __init__(self, allowed: Sequence[str] | None, origins: Sequence[str] = ()) -> None:
        """`origins`: pages that the operator lets in; "*" is all."""
        self._allowed = None if allowed is None else {host.lower() for host in allowed}
        self._origins = set(origins)

    def check(self, headers: Headers, http_version: str = "1.1") -> None:
        """Raises `Forbidden`. A request of HTTP/1.0 may name no host: no browser sends one."""
        if self._allowed is None:
            return
        hosts = headers.getlist("host")
        if not hosts and http_version == "1.0" and "origin" not in headers:
            return
        if len(hosts) != 1 or _hostname(hosts[0]) not in self._allowed:
            raise Forbidden(
                "The header 'Host' names another server: this one answers to its own address only.",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin in self._origins or "*" in self._origins:
            return
        if origin is not None and origin.partition("://")[2].lower() != hosts[0].lower():
            raise Forbidden(
                "The header 'Origin' names another site: start the server with a key to allow it.",
                code="origin_not_allowed",
            )


def _hostname(host: str) -> str:
    """`localhost:8000` -> `localhost`, `[::1]:8000` -> `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
