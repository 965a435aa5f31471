"""How much each API key may ask for: requests in a minute, tokens of prompts and answers in a
minute, and answers under way at once.

Two leaky buckets a key, full at first, which refill without a pause. A request is let in while both
hold something; its prompt is charged at once and its answer when it is known, so a bucket may go
below nothing, and the key then waits until it is above. A key's books are kept while a bucket of it
is not full, and those of as many others at most: callers cannot make them grow. They are looked
through as often as they double, since behind a gateway there may be a caller for each of its users.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping

from thirdeye.server.errors import ApiError, RequestsLimited, TokensLimited, come_back_in, whose

KINDS = ("requests", "tokens")
FEW = 64  # books that are never looked through
CONCURRENT = "concurrent"  # has no reset: a place is free when an answer ends, whenever that is
RATE_HEADERS = (
    *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in KINDS),
    *(f"x-ratelimit-{what}-{CONCURRENT}" for what in ("limit", "remaining")),
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


class Places:
    """How many answers of each key are under way, out of `limit`; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()

    def num_free(self, caller: str) -> int:
        return max(self.limit - self._taken[caller], 0)

    def take(self, caller: str) -> None:
        self._taken[caller] += 1

    def give_back(self, caller: str) -> None:
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]

    def headers(self, caller: str) -> dict[str, str]:
        if not self.limit:
            return {}
        return {
            f"x-ratelimit-limit-{CONCURRENT}": str(self.limit),
            f"x-ratelimit-remaining-{CONCURRENT}": str(self.num_free(caller)),
        }


class Account:
    """One request's view of its key's buckets and places; every change renews the answer's
    headers."""

    def __init__(
        self,
        caller: str,
        buckets: Mapping[str, Bucket],
        places: Places,
        headers: MutableMapping[str, str],
    ) -> None:
        self._caller = caller
        self._buckets = buckets
        self._places = places
        self._headers = headers

    def begin(self) -> None:
        """An answer is under way, until `end`."""
        self._places.take(self._caller)
        self._headers.update(self._places.headers(self._caller))

    def end(self) -> None:
        self._places.give_back(self._caller)

    def charge(self, **amounts: int) -> None:
        self._headers.update(self._places.headers(self._caller))
        for kind, bucket in self._buckets.items():
            bucket.take(amounts.get(kind, 0))
            self._headers.update(bucket.headers(kind))


class Rates:
    """The buckets of every key. Without limits it lets all in and says nothing."""

    def __init__(
        self,
        per_minute: Mapping[str, int] | None = None,
        clock: Callable[[], float] | None = None,
        at_once: int = 0,
    ) -> None:
        """`per_minute`: `requests` and `tokens`; `at_once`: answers under way. 0 or absent is no
        limit."""
        self._limits = {kind: limit for kind, limit in (per_minute or {}).items() if limit}
        self._clock = clock or time.monotonic
        self._buckets: dict[str, dict[str, Bucket]] = {}
        self._look_at = FEW  # so many books
        self._places = Places(at_once)
        self.num_rejected = 0

    def open(self, caller: str, headers: MutableMapping[str, str]) -> Account:
        """The account to charge, if something is left on it.

        Raises `RequestsLimited` or `TokensLimited`. `headers` gets what the caller has left, too.
        """
        if len(self._buckets) >= self._look_at:
            self._forget_full_ones()
        buckets = self._buckets.setdefault(
            caller, {kind: Bucket(limit, self._clock) for kind, limit in self._limits.items()}
        )
        account = Account(caller, buckets, self._places, headers)
        account.charge()
        if self._places.limit and not self._places.num_free(caller):
            raise self._limited(
                RequestsLimited,
                f"{self._places.limit} answers are under way for {whose(caller)}, as many as may "
                "be at once. Try again when one has ended.",
                1,
            )
        for kind, bucket in buckets.items():
            wait = bucket.seconds_until(1)
            if wait > 0:
                raise self._limited(
                    _ERRORS[kind],
                    f"The limit of {bucket.per_minute} {kind} a minute is reached for "
                    f"{whose(caller)}. Try again in {duration(wait)}.",
                    math.ceil(wait),
                )
        return account

    def _limited(self, error: type[ApiError], message: str, seconds: int) -> ApiError:
        self.num_rejected += 1
        return error(message, code="rate_limit_exceeded", headers=come_back_in(seconds))

    def _forget_full_ones(self) -> None:
        self._buckets = {
            caller: buckets
            for caller, buckets in self._buckets.items()
            if any(bucket.level() < bucket.per_minute for bucket in buckets.values())
        }
        self._look_at = max(2 * len(self._buckets), FEW)


def duration(seconds: float) -> str:
    """As OpenAI writes it: `20ms`, `1s`, `6m0s`; rounded up, so that coming back then works."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
