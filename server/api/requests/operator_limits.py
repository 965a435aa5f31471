"""Limits that are the operator's: how many samples (`--max-n`), how many of all prompts together
(`--max-choices`), how many stop strings (`--max-stop`).

The schema holds the largest values any server of ours takes; these are this server's. They are
checked like the schema's own, and shown in its OpenAPI document.
"""

from collections.abc import Sequence
from typing import Any

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.errors import InvalidRequest


def check_ceilings(
    config: ApiConfig,
    stop: Sequence[str],
    n: int = 1,
    stop_param: str = "stop",
    num_prompts: int = 1,
) -> None:
    """Raises `InvalidRequest` for more than this server allows."""
    if n > config.max_n:
        raise InvalidRequest(
            f"'n' must be between 1 and {config.max_n}, got {n}.",
            param="n",
            code="integer_above_max_value",
        )
    if n * num_prompts > config.max_choices:
        raise InvalidRequest(
            f"'n' times the number of prompts must be at most {config.max_choices}, got "
            f"{n} x {num_prompts}.",
            param="n",
            code="integer_above_max_value",
        )
    if len(stop) > config.max_stop:
        raise InvalidRequest(
            f"'{stop_param}' must hold at most {config.max_stop} items, got {len(stop)}.",
            param=stop_param,
            code="array_above_max_length",
        )


def show_ceilings(document: dict[str, Any], config: ApiConfig) -> dict[str, Any]:
    """The OpenAPI document with this server's limits in it, in place."""
    for name, schema in document["components"]["schemas"].items():
        is_asked = name.endswith(("Request", "Options"))
        fields = schema.get("properties", {}) if is_asked else {}
        _set(fields.get("n", {}), "maximum", config.max_n)
        for stop in ("stop", "stop_sequences"):
            _set(fields.get(stop, {}), "maxItems", config.max_stop)
    return document


def _set(field: dict[str, Any], key: str, limit: int) -> None:
    for part in _parts(field):
        if key in part:
            part[key] = limit


def _parts(field: dict[str, Any]) -> list[dict[str, Any]]:
    """A field's schema and its alternatives, however deep they nest."""
    return [field, *(part for option in field.get("anyOf", []) for part in _parts(option))]
