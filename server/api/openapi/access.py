"""Who may ask, in the OpenAPI document: it depends on how the server was started.

With keys every operation but the open ones wants one, as a Bearer token or in `x-api-key`, and may
answer 401, or 403 where the key lacks the scope; a scope other than `use` stands in the lock.
Without keys nobody is unknown, and a foreign Host or Origin is a 403 instead, unless
the operator lets every host pass.
"""

from typing import Any

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import open_paths, scope_of
from thirdeye.server.api.http.rate_limits import CONCURRENT, RATE_HEADERS
from thirdeye.server.settings.api_keys import USE

SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
RATE_HEADER = {
    "description": "What a key may ask for, and what is left of it",
    "required": False,
    "schema": {"type": "string"},
}
METHODS = ("get", "post")


def show_access(document: dict[str, Any], config: ApiConfig) -> dict[str, Any]:
    """The OpenAPI document with this server's locks in it, in place."""
    has_keys = bool(config.api_keys)
    if has_keys:
        document["components"]["securitySchemes"] = SCHEMES
        document["security"] = [{name: []} for name in SCHEMES]
    open_to_all = open_paths(open_metrics=config.open_metrics)
    checks_hosts = not has_keys and config.allowed_hosts is not None
    for path, operations in document["paths"].items():
        is_open = path in open_to_all
        scope = scope_of(path)
        for operation in (operations[method] for method in METHODS if method in operations):
            if is_open and has_keys:
                operation["security"] = []
            if is_open or not has_keys:
                operation["responses"].pop("401", None)
            elif scope != USE:
                operation["security"] = [{name: [scope]} for name in SCHEMES]
            if not checks_hosts and (is_open or not has_keys):
                operation["responses"].pop("403", None)
            _show_limits(operation["responses"], config)
    return document


def _show_limits(answers: dict[str, Any], config: ApiConfig) -> None:
    """Of what a key may be short of, the headers say what is left: on answers and on 429s."""
    limits = {
        "requests": config.requests_per_minute,
        "tokens": config.tokens_per_minute,
        CONCURRENT: config.concurrent_requests,
    }
    kinds = [kind for kind, limit in limits.items() if limit]
    shown = {name: RATE_HEADER for name in RATE_HEADERS if name.rpartition("-")[2] in kinds}
    if "429" in answers:
        for status in ("200", "429"):
            answers[status]["headers"] |= shown
