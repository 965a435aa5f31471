"""Back-pressure: who is let in, and when the others should come back.

A permit is taken before the first byte of an answer and given back when its last is sent, whatever
happens between. The count of permits is also what a drain waits for.

Let in is who finds a free place, or will find one within `max_wait` seconds as sure as 99 in 100,
by what answers have taken so far (`queue_forecast`). A refusal costs microseconds and names a
moment: when all who wait now have a place, and each refused request behind the one before, at half
the rate at which places come free. So those who come back as told find room, and do not come
together.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from thirdeye.server.api.admission.queue_forecast import QueueForecast
from thirdeye.server.errors import MAX_RETRY_AFTER, ServerOverloaded, come_back_in

QUEUE_FACTOR = 2  # requests waiting for each one that can run, where no time is set
NUM_KNOWN = 128  # durations that are remembered; four times the places, if those are more
FEWEST_WAITING, PLACES_FOR_ONE = 4, 8  # who may wait before a full house was measured
PLANNED = 0.8  # of `max_wait`: what is left is for what nobody could foresee
RETURNS = 2  # places that come free for each one that is promised: the other is for newcomers
RENEWAL = 0.05  # seconds that a forecast is used


class Permit:
    """The right to have `size` choices in flight. Releasing twice is harmless."""

    def __init__(self, admission: "AdmissionControl", size: int) -> None:
        self.size = size
        self.started_at = 0.0
        self.place_seconds = 0.0  # of all answers, when it began
        self._admission: AdmissionControl | None = admission

    def release(self) -> None:
        if self._admission is not None:
            self._admission.give_back(self)
            self._admission = None


class AdmissionControl:
    """Counts the choices in flight: in `max_num_seqs` places, first come first served, and those
    behind them."""

    def __init__(
        self,
        max_num_seqs: int = 64,
        clock: Callable[[], float] = time.monotonic,
        max_wait: float = 10.0,
    ) -> None:
        """`max_wait`: seconds that an admitted request may wait for a place; 0 is any time, and
        then the queue is twice what can run."""
        self.max_num_seqs = max_num_seqs
        self.max_wait = max_wait
        self.in_flight = 0
        self.num_rejected = 0
        self._clock = clock
        self._running: OrderedDict[Permit, None] = OrderedDict()
        self._waiting: OrderedDict[Permit, None] = OrderedDict()
        self._num_running = 0  # choices
        self._place_seconds, self._counted_at = 0.0, clock()  # taken places, times how long
        # Seconds that answers held a place, and the same as if all places had been taken.
        self._durations: deque[tuple[float, float]] = deque()
        self._known_seconds = 0.0  # the sum of the second ones
        self._room, self._room_at = 0.0, -math.inf
        self._booked_until = -math.inf

    @property
    def capacity(self) -> int:
        """How many choices may be in flight, as it looks now."""
        return self.max_num_seqs + math.floor(min(self._current_room(), 2**31))

    def check(self, size: int = 1) -> None:
        """Raises `ServerOverloaded` if `size` choices must come back later.

        A request larger than the whole queue still gets in when nothing else is there.
        """
        if self.is_full(size):
            raise self.refusal(size)

    def refusal(self, size: int = 1) -> ServerOverloaded:
        """What `check` raises, of a queue that is full. It is counted, and its moment promised."""
        self.num_rejected += 1
        return self._overloaded(self._num_ahead(size), size)

    def is_full(self, size: int = 1) -> bool:
        """Whether `check` would raise."""
        num_ahead = self._num_ahead(size)
        return self.in_flight > 0 and num_ahead > 0 and num_ahead > self._current_room()

    def _num_ahead(self, size: int) -> int:
        """Choices that have to end before."""
        return self.in_flight + size - self.max_num_seqs

    def admit(self, size: int) -> Permit:
        """Places for `size` choices. Raises as `check` does."""
        self.check(size)
        permit = Permit(self, size)
        self.in_flight += size
        self._waiting[permit] = None
        self._fill_places()
        return permit

    def give_back(self, permit: Permit) -> None:
        self.in_flight -= permit.size
        assert self.in_flight >= 0, "a permit was released twice"
        if permit in self._waiting:
            del self._waiting[permit]
            return
        del self._running[permit]
        self._count_places()
        self._remember(permit)
        self._num_running -= permit.size
        self._fill_places()

    def retry_after(self) -> int:
        """Whole seconds until all who wait should have a place, 1..60."""
        num_waiting = max(self.in_flight - self.max_num_seqs, 1)
        return self._as_header(num_waiting * self._seconds_per_place())

    def _fill_places(self) -> None:
        """As the engine does: whoever came first, while there is a place."""
        self._count_places()
        while self._waiting and (self._num_running < self.max_num_seqs or not self._running):
            permit, _ = self._waiting.popitem(last=False)
            self._running[permit] = None
            self._num_running += permit.size
            permit.started_at, permit.place_seconds = self._counted_at, self._place_seconds

    def _count_places(self) -> None:
        now = self._clock()
        self._place_seconds += self._num_running * (now - self._counted_at)
        self._counted_at = now

    def _remember(self, permit: Permit) -> None:
        """Beside few others an answer is faster than in a full house: by how much is not known,
        but never by more than the places that were empty."""
        seconds = self._counted_at - permit.started_at
        places = self._place_seconds - permit.place_seconds
        emptiness = max(self.max_num_seqs * seconds / places, 1.0) if places > 0 else 1.0
        self._durations.append((seconds, seconds * emptiness))
        self._known_seconds += seconds * emptiness
        if len(self._durations) > max(NUM_KNOWN, 4 * self.max_num_seqs):
            self._known_seconds -= self._durations.popleft()[1]

    def _current_room(self) -> float:
        """How many choices may wait. A forecast holds for a moment: a refusal must cost little."""
        if not self.max_wait:
            return QUEUE_FACTOR * self.max_num_seqs
        now = self._clock()
        if now - self._room_at >= RENEWAL:
            self._room, self._room_at = self._forecast(now), now
        return self._room

    def _forecast(self, now: float) -> float:
        """A few, if at the best of what is measured that will do, or what is certain at its worst.

        Measured in a full house, the two are the same; before anything has ended, nobody knows.
        """
        few = max(FEWEST_WAITING, self.max_num_seqs // PLACES_FOR_ONE)
        if not self._durations:
            return few
        ages = [(permit.size, now - permit.started_at) for permit in self._running]
        best, worst = (QueueForecast(kind) for kind in zip(*self._durations, strict=True))
        within = PLANNED * self.max_wait
        room = max(min(best.room(ages, within), few), worst.room(ages, within))
        return room * min(self.max_num_seqs / max(self._num_running, 1), 1.0)

    def _seconds_per_place(self) -> float:
        """From one place that comes free to the next, at worst; 0 if nothing is known."""
        known = len(self._durations)
        return max(self._known_seconds, 0.0) / known / self.max_num_seqs if known else 0.0

    def _overloaded(self, num_ahead: int, size: int) -> ServerOverloaded:
        waiting = max(self.in_flight - self.max_num_seqs, 0)
        now, pace = self._clock(), self._seconds_per_place()
        booked = max(now + num_ahead * pace, self._booked_until + RETURNS * size * pace)
        self._booked_until = min(booked, now + MAX_RETRY_AFTER)
        seconds = self._as_header(booked - now)
        return ServerOverloaded(
            f"The queue is full: {waiting} requests are waiting. Try again in {seconds} s.",
            code="rate_limit_exceeded",
            headers=come_back_in(seconds),
        )

    @staticmethod
    def _as_header(seconds: float) -> int:
        return min(max(math.ceil(seconds), 1), MAX_RETRY_AFTER)
