"""A server on a clock of its own, under an `AdmissionControl`: who comes when, and what of it.

All rows of a batch advance alike, a batch of b by `1 / (alpha + beta b)` tokens a second: so is a
CPU (beta large) and a GPU (beta small). Exact, event by event; a minute takes milliseconds.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from thirdeye.server.api.admission.admission_control import AdmissionControl, Permit
from thirdeye.server.errors import ServerOverloaded


@dataclass
class Visit:
    """One request, once at the door."""

    at: float
    num_tokens: float
    is_return: bool = False
    permit: Permit | None = None
    began: float | None = None
    ended: float | None = None
    retry_after: int = 0

    @property
    def wait(self) -> float | None:
        return None if self.began is None else self.began - self.at


@dataclass
class Machine:
    num_places: int = 16
    alpha: float = 0.02  # seconds of a step
    beta: float = 0.005  # and of each row in it
    length: Callable[[random.Random], float] = lambda rng: rng.expovariate(1 / 50)
    mean_length: float = 50.0

    def speed(self, num_rows: int) -> float:
        return 1 / (self.alpha + self.beta * num_rows)

    @property
    def capacity(self) -> float:
        """Requests a second, all places taken."""
        return self.num_places * self.speed(self.num_places) / self.mean_length


@dataclass
class Simulation:
    machine: Machine
    max_wait: float = 10.0
    seed: int = 0
    retries: bool = False  # who is refused comes back once, as told
    now: float = 0.0
    num_served: float = 0.0  # tokens
    visits: list[Visit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.admission = AdmissionControl(
            self.machine.num_places, clock=lambda: self.now, max_wait=self.max_wait
        )
        self._queue: deque[Visit] = deque()
        self._rows: list[tuple[float, int, Visit]] = []  # by the tokens at which they end
        self._tokens = 0.0  # that each row would have, had it been there from the start
        self._returns: list[tuple[float, int, Visit]] = []
        self._ids = count()

    def run(self, load: float, seconds: float) -> "Simulation":
        """Arrivals at `load` times the capacity for so long."""
        end = self.now + seconds
        for at in self._arrivals(load * self.machine.capacity, end):
            self._advance(at)
            self._visit(Visit(at, self.machine.length(self.rng)))
        self._advance(end)
        return self

    def _arrivals(self, rate: float, end: float) -> Iterator[float]:
        at = self.now
        while rate and (at := at + self.rng.expovariate(rate)) < end:
            yield at

    def _advance(self, to: float) -> None:
        """Ends and returns, in the order of time, up to `to`."""
        while True:
            next_end = self._next_end()
            next_return = self._returns[0][0] if self._returns else float("inf")
            at = min(next_end, next_return, to)
            if self._rows:
                step = (at - self.now) * self.machine.speed(len(self._rows))
                self._tokens += step
                self.num_served += step * len(self._rows)
            self.now = at
            if at == to and at < min(next_end, next_return):
                return
            if next_end <= next_return:
                self._end()
            else:
                self._visit(heapq.heappop(self._returns)[2])

    def _next_end(self) -> float:
        if not self._rows:
            return float("inf")
        left = max(self._rows[0][0] - self._tokens, 0.0)
        return self.now + left / self.machine.speed(len(self._rows))

    def _end(self) -> None:
        tokens, _, visit = heapq.heappop(self._rows)
        self._tokens = max(self._tokens, tokens)
        visit.ended = self.now
        assert visit.permit is not None
        visit.permit.release()
        self._fill()

    def _visit(self, visit: Visit) -> None:
        self.visits.append(visit)
        try:
            visit.permit = self.admission.admit(1)
        except ServerOverloaded as refusal:
            visit.retry_after = int(refusal.headers["Retry-After"])
            if self.retries and not visit.is_return:
                back = self.now + visit.retry_after
                again = Visit(back, visit.num_tokens, is_return=True)
                heapq.heappush(self._returns, (back, next(self._ids), again))
            return
        self._queue.append(visit)
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._rows) < self.machine.num_places:
            visit = self._queue.popleft()
            visit.began = self.now
            heapq.heappush(self._rows, (self._tokens + visit.num_tokens, next(self._ids), visit))

    def between(self, start: float, end: float) -> list[Visit]:
        return [visit for visit in self.visits if start <= visit.at < end]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0
