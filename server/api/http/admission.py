"""Back-pressure: how many choices may be in flight, and when to come back if they are too many.

A permit is taken before the first byte of an answer and given back when its last is sent, whatever
happens between. The count of permits is also what a drain waits for.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from thirdeye.server.errors import MAX_RETRY_AFTER, ServerOverloaded, come_back_in

QUEUE_FACTOR = 2  # requests waiting for each one that can run


class Permit:
    """The right to have `size` choices in flight. Releasing twice is harmless."""

    def __init__(self, admission: "AdmissionControl", size: int) -> None:
        self.size = size
        self._admission: AdmissionControl | None = admission

    def release(self, num_tokens: int = 0) -> None:
        """Give the places back; `num_tokens` is what was generated, for the measured rate."""
        if self._admission is not None:
            self._admission.give_back(self.size, num_tokens)
            self._admission = None


class AdmissionControl:
    """Counts the choices in flight against `max_num_seqs` running and twice that many waiting."""

    def __init__(self, max_num_seqs: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_num_seqs = max_num_seqs
        self.in_flight = 0
        self.num_rejected = 0
        self._clock = clock
        self._busy_since = 0.0
        self._busy_seconds = 0.0  # while anything was in flight
        self._num_finished = 0
        self._num_tokens = 0

    @property
    def capacity(self) -> int:
        return self.max_num_seqs * (1 + QUEUE_FACTOR)

    def admit(self, size: int) -> Permit:
        """Places for `size` choices. Raises `ServerOverloaded` when they must come back later.

        A request larger than the whole queue still gets in when nothing else is there.
        """
        if self.in_flight and self.in_flight + size > self.capacity:
            self.num_rejected += 1
            raise self._overloaded()
        if self.in_flight == 0:
            self._busy_since = self._clock()
        self.in_flight += size
        return Permit(self, size)

    def give_back(self, size: int, num_tokens: int) -> None:
        self.in_flight -= size
        assert self.in_flight >= 0, "a permit was released twice"
        self._num_finished += size
        self._num_tokens += num_tokens
        if self.in_flight == 0:
            self._busy_seconds += self._clock() - self._busy_since

    def retry_after(self) -> int:
        """Whole seconds until the queue should have gone: queued tokens ÷ measured rate, 1..60."""
        busy = self._busy_seconds + (self._clock() - self._busy_since if self.in_flight else 0.0)
        if not self._num_tokens or busy <= 0:
            return 1
        num_queued = max(self.in_flight - self.max_num_seqs, 1)
        queued_tokens = num_queued * self._num_tokens / self._num_finished
        rate = self._num_tokens / busy  # tokens a second
        return min(max(round(queued_tokens / rate), 1), MAX_RETRY_AFTER)

    def _overloaded(self) -> ServerOverloaded:
        waiting = max(self.in_flight - self.max_num_seqs, 0)
        seconds = self.retry_after()
        return ServerOverloaded(
            f"The queue is full: {waiting} requests are waiting. Try again in {seconds} s.",
            code="rate_limit_exceeded",
            headers=come_back_in(seconds),
        )


class ViewerSlots:
    """Places for those who watch the engine or look into the model: so many in all, and of each
    key at most `of_key`, so that one cannot take them all."""

    def __init__(self, num_places: int, of_key: int, what_they_do: str) -> None:
        self._num_places = num_places
        self._of_key = of_key
        self._what_they_do = what_they_do
        self._taken: Counter[str] = Counter()

    def acquire(self, caller: str) -> Callable[[], None]:
        """What gives the place back. Raises `ServerOverloaded` if there is none; without keys
        (`caller` is empty) there is only the limit of all."""
        if self._taken.total() >= self._num_places:
            raise self._full(self._num_places, "")
        if caller and self._taken[caller] >= self._of_key:
            raise self._full(self._of_key, " with this key")
        self._taken[caller] += 1
        return partial(self._release, caller)

    def _release(self, caller: str) -> None:
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]

    def _full(self, num_places: int, whose: str) -> ServerOverloaded:
        return ServerOverloaded(
            f"{num_places} {self._what_they_do}{whose}. Try again later.",
            code="rate_limit_exceeded",
            headers=come_back_in(5),
        )
