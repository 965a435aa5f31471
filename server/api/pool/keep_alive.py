"""`keep_alive` of a request: Ollama's words for how long a model stays after it."""

import re
from datetime import timedelta

from thirdeye.server.errors import InvalidRequest

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+)")
MOST = timedelta(days=365_000).total_seconds()


def read_keep_alive(value: object) -> float | None:
    """Seconds: a number, or words like `5m` and `1h30m`; below 0 is for ever, None is not said.
    Raises `InvalidRequest`."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return min(float(value), MOST)
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?\d{1,15}", value):
            return min(float(value), MOST)
        if found := _DURATION.fullmatch(value[:100]):
            parts = _PART.findall(found[2])
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
            return -seconds if found[1] == "-" else min(seconds, MOST)
    raise InvalidRequest(
        "'keep_alive' must be seconds, or a duration like '5m'; below 0 is for ever.",
        param="keep_alive",
        code="invalid_value",
    )
