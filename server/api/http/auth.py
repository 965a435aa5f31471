"""Who may ask: API keys, and, without keys, which Host and Origin a browser may come from.

Deny by default for the whole app, with an exact list of open paths: never "if the path starts with
/v1", and never a URL put together from the Host header. Keys are kept and compared as SHA-256
digests; what a key may do are its scopes.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.datastructures import Headers

from thirdeye.server.api.http.revocation import Revocations
from thirdeye.server.errors import Forbidden, InvalidRequest, Unauthorized
from thirdeye.server.settings.api_keys import GATEWAY, INSPECT, OPERATE, SCOPES, USE, parse_keys
from thirdeye.server.web import ASSETS

OPEN_PATHS = frozenset({"/health", "/ping", "/ready", *ASSETS})
# `/metrics` adds up what all keys do: by its changes one could measure another's prompts.
SCOPE_OF = {
    "/v1/timeline": INSPECT,
    "/v1/inspect": INSPECT,
    "/v1/inspect/vocabulary": INSPECT,
    "/metrics": OPERATE,
    "/reset_prefix_cache": OPERATE,
    "/models/load": OPERATE,
    "/models/unload": OPERATE,
    "/v1/load_lora_adapter": OPERATE,
    "/v1/unload_lora_adapter": OPERATE,
    "/sleep": OPERATE,
    "/wake_up": OPERATE,
}
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

_NAMED = re.compile(r"[A-Za-z0-9._@|+=:-]{1,128}")  # whom a gateway asks for
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Caller:
    name: str  # of the key, `KEY:NAME` if it asks for somebody; "" without keys
    scopes: frozenset[str]
    digest: bytes = b""  # of the key

    def named(self, names: Sequence[str], header: str) -> "Caller":
        """Whom this key asks for, by what was sent in `header`; itself if nothing was. Raises
        `Forbidden` if it may not speak for others, `InvalidRequest` for what is no name."""
        if not names:
            return self
        if GATEWAY not in self.scopes:
            raise _lacks(
                GATEWAY,
                f"The header '{header}' is for gateways: the key '{self.name}' lacks the scope "
                f"'{GATEWAY}'. Leave the header out.",
            )
        if len(names) != 1 or not _NAMED.fullmatch(names[0]):
            raise InvalidRequest(
                f"The header '{header}' must be there once, with 1 to 128 of the characters A-Z "
                "a-z 0-9 . _ @ | + = : -",
                code="invalid_caller",
            )
        # A key's name has no colon, and neither has a slash: no two callers get one salt.
        return replace(self, name=f"{self.name}:{names[0]}")

    def check(self, scope: str) -> None:
        """Raises `Forbidden` if the key lacks the scope."""
        check_scope(self.name, self.scopes, scope)


def check_scope(name: str, scopes: frozenset[str], scope: str) -> None:
    """Raises `Forbidden` if the key of this name, which has `scopes`, lacks the one asked for."""
    if scope not in scopes:
        raise _lacks(scope, f"The key '{name}' may not do this: it lacks the scope '{scope}'.")


ANYBODY = Caller("", frozenset(SCOPES))


class ApiKeys:
    """The accepted keys. An empty ring accepts everyone, for everything."""

    def __init__(self, lines: Sequence[str]) -> None:
        """`lines` are as in a key file. Raises ValueError."""
        self._keys = parse_keys(lines)
        self.num_changes = 0
        self.revocations = Revocations()

    def replace(self, lines: Sequence[str]) -> int:
        """From now on these; with an error (ValueError) the old ones stay. Requests under way of a
        key that is gone, or may do less, are ended: how many."""
        before, self._keys = self._keys, parse_keys(lines)
        self.num_changes += 1
        scopes = {key.digest: key.scopes for key in self._keys}
        return self.revocations.revoke(
            key.digest for key in before if not key.scopes <= scopes.get(key.digest, frozenset())
        )

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def caller(self, headers: Headers) -> Caller:
        """Whose key was sent. Raises `Unauthorized`."""
        if not self._keys:
            return ANYBODY
        sent = _sent_key(headers)
        if not sent:
            raise Unauthorized(
                "The API key is missing: send it in the header 'Authorization: Bearer KEY' (or "
                "'x-api-key: KEY').",
                headers=_CHALLENGE,
            )
        # Starlette reads headers as Latin-1: encoding them back gives the bytes that were sent.
        digest = hashlib.sha256(sent.encode("latin-1")).digest()
        # Every stored key is compared, so that the time tells nothing.
        found = [key for key in self._keys if hmac.compare_digest(digest, key.digest)]
        if not found:
            raise Unauthorized(
                "The API key is not accepted.", code="invalid_api_key", headers=_CHALLENGE
            )
        return Caller(found[0].name, found[0].scopes, digest)


def _lacks(scope: str, message: str) -> Forbidden:
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return Forbidden(message, code="insufficient_scope", headers={"WWW-Authenticate": challenge})


def open_paths(*, open_metrics: bool) -> frozenset[str]:
    """What needs no key."""
    return OPEN_PATHS | {"/metrics"} if open_metrics else OPEN_PATHS


def scope_of(path: str) -> str:
    """What a key must be allowed for a path: to use the server, unless it is listed."""
    return SCOPE_OF.get(path, USE)


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
                "The header 'Host' names another server: start this one with '--allow-host' and "
                "the name, or with a key.",
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


def hosts_of(host: str, names: Sequence[str] = ()) -> tuple[str, ...] | None:
    """What a server on the address `host` answers to without a key, with the operator's `names`;
    None is everything: who listens for others and names nobody lets all in."""
    if host in LOOPBACK_HOSTS:
        return (*LOOPBACK_HOSTS, *names)
    return (*LOOPBACK_HOSTS, host, *names) if names else None


def _hostname(host: str) -> str:
    """`localhost:8000` -> `localhost`, `[::1]:8000` -> `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
