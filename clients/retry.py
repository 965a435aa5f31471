"""When to try again, and how long to wait: a pure function of the error and the number of tries.

What a second try can mend is retried: connections that failed, 408, 409, 429 and 5xx. The server
has the last word: `x-should-retry` overrules the status, `retry-after-ms` and `Retry-After`
overrule the backoff; a wait of more than two minutes is the caller's to decide. Timeouts are not
retried: the server is likely at work on that very answer, and a second copy would not make it
faster.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from thirdeye.clients.errors import APIError, ConnectionFailed, ThirdeyeError

RETRIED = frozenset({408, 409, 429})
LONGEST_WAIT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_retries` more tries; waits in seconds, from `first_wait` up to `max_wait`."""

    max_retries: int = 2
    first_wait: float = 0.5
    max_wait: float = 8.0

    def wait(self, error: ThirdeyeError, attempt: int, chance: float) -> float | None:
        """Seconds until the next try after failure `attempt` (0 is the first), None to give up.

        `chance` in [0, 1) takes up to a quarter off the wait, so that clients do not come back in
        step.
        """
        if attempt >= self.max_retries or not is_retriable(error):
            return None
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is not None:
            return asked if asked <= LONGEST_WAIT else None
        backoff = min(self.first_wait * 2.0 ** min(attempt, 60), self.max_wait)
        return backoff * (1 - 0.25 * chance)


def is_retriable(error: ThirdeyeError) -> bool:
    if not isinstance(error, APIError):
        return isinstance(error, ConnectionFailed)
    if error.should_retry is not None:
        return error.should_retry
    return error.status is not None and (error.status in RETRIED or error.status >= 500)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date).

    `headers` has lower-case names; `now` is in seconds since 1970, for the date form.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    return _until(value, now) if seconds is None else seconds


def read_should_retry(headers: Mapping[str, str]) -> bool | None:
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(value: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
