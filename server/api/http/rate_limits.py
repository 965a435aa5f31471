"""How much each API key may ask for in a minute: requests, and tokens of prompts and answers.

Two leaky buckets a key, full at first, which refill without a pause. A request is let in while both
hold something; its prompt is charged at once and its answer when it is known, so a bucket may go
below nothing, and the key then waits until it is above. A key's books are kept while a bucket of it
is not full: callers cannot make them grow.
"""

import math
import time
from collections.abc import Callable, Mapping, MutableMapping

from thirdeye.server.errors import RequestsLimited, TokensLimited, come_back_in

KINDS = ("requests", "tokens")
RATE_HEADERS = tuple(
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in KINDS
)
_ERRORS = {"requests": RequestsLimited, "tokens": TokensLimited}


class Bucket:
    """`per_minute` of something, refilling evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._seen_at = clock()

    def level(self) -> float:
        """What is left; below 0 if more was taken."""
        now = self._clock()
        refill = (now - self._seen_at) * self.per_minute / 60
        self._level, self._seen_at = min(self._level + refill, float(self.per_minute)), now
        return self._level

    def take(self, amount: float) -> None:
        self._level = self.level() - amount

    def seconds_until(self, level: float) -> float:
        return max(level - self.level(), 0.0) * 60 / self.per_minute

    def headers(self, kind: str) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{kind}": str(self.per_minute),
            f"x-ratelimit-remaining-{kind}": str(max(math.floor(self.level()), 0)),
            f"x-ratelimit-reset-{kind}": duration(self.seconds_until(self.per_minute)),
        }


class Account:
    """One request's view of its key's buckets; every charge renews the answer's headers."""

    def __init__(self, buckets: Mapping[str, Bucket], headers: MutableMapping[str, str]) -> None:
        self._buckets = buckets
        self._headers = headers

    def charge(self, **amounts: int) -> None:
        for kind, bucket in self._buckets.items():
            bucket.take(amounts.get(kind, 0))
            self._headers.update(bucket.headers(kind))


class Rates:
    """The buckets of every key. Without limits it lets all in and says nothing."""

    def __init__(
        self, per_minute: Mapping[str, int] | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """`per_minute`: `requests` and `tokens`; 0 or absent is no limit."""
        self._limits = {kind: limit for kind, limit in (per_minute or {}).items() if limit}
        self._clock = clock or time.monotonic
        self._buckets: dict[str, dict[str, Bucket]] = {}
        self.num_rejected = 0

    def open(self, caller: str, headers: MutableMapping[str, str]) -> Account:
        """The account to charge, if something is left on it.

        Raises `RequestsLimited` or `TokensLimited`. `headers` gets what the caller has left, too.
        """
        self._forget_full_ones()
        buckets = self._buckets.setdefault(
            caller, {kind: Bucket(limit, self._clock) for kind, limit in self._limits.items()}
        )
        account = Account(buckets, headers)
        account.charge()
        for kind, bucket in buckets.items():
            wait = bucket.seconds_until(1)
            if wait > 0:
                self.num_rejected += 1
                raise _ERRORS[kind](
                    f"The limit of {bucket.per_minute} {kind} a minute is reached for this key. "
                    f"Try again in {duration(wait)}.",
                    code="rate_limit_exceeded",
                    headers=come_back_in(math.ceil(wait)),
                )
        return account

    def _forget_full_ones(self) -> None:
        self._buckets = {
            caller: buckets
            for caller, buckets in self._buckets.items()
            if any(bucket.level() < bucket.per_minute for bucket in buckets.values())
        }


def duration(seconds: float) -> str:
    """As OpenAI writes it: `20ms`, `1s`, `6m0s`; rounded up, so that coming back then works."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
