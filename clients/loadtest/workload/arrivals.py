"""When requests arrive in an open loop: seconds from the start, in order.

A renewal process of unit rate, whose clock is then stretched by the rate. Gaps are drawn from a
gamma distribution of mean 1 and shape `burstiness`: 1 is Poisson, below 1 comes in bursts, above 1
is more even, and infinity is a constant rate. A ramp changes the rate linearly from `rate` to
`ramp_to`. It knows no requests and no clock.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

CONSTANT = math.inf  # as a burstiness


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`rate` is in requests per second, at the start of a ramp if there is one.

    >>> list(Arrivals(rate=4.0, burstiness=CONSTANT).times(3, seed=0))
    [0.0, 0.25, 0.5]
    """

    rate: float
    burstiness: float = 1.0
    ramp_to: float | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "burstiness", "ramp_to"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"'{name}' must be greater than 0, got {value}.")

    def times(self, num_requests: int, seed: int) -> Iterator[float]:
        """The first request arrives at 0: a run does not begin with a silence."""
        draws = random.Random(seed)
        gaps = (self._gap(draws) for _ in range(num_requests - 1))
        ramp_seconds = num_requests / self.mean_rate
        due = accumulate(gaps, initial=0.0)
        # of two that are due together, rounding must not turn the order around
        yield from accumulate((self._when(expected, ramp_seconds) for expected in due), max)

    @property
    def mean_rate(self) -> float:
        return self.rate if self.ramp_to is None else (self.rate + self.ramp_to) / 2

    def _gap(self, draws: random.Random) -> float:
        if self.burstiness == CONSTANT:
            return 1.0
        return draws.gammavariate(self.burstiness, 1 / self.burstiness)

    def _when(self, expected: float, ramp_seconds: float) -> float:
        """The time until which `expected` requests are due: the inverse of the rate's integral.

        With a slope, expected = rate t + slope t^2 / 2; the form below is stable for a small one.
        A ramp that is over goes on at its last rate.
        """
        if self.ramp_to is None:
            return expected / self.rate
        in_ramp = self.mean_rate * ramp_seconds
        if expected >= in_ramp:
            return ramp_seconds + (expected - in_ramp) / self.ramp_to
        slope = (self.ramp_to - self.rate) / ramp_seconds
        root = math.sqrt(max(0.0, self.rate**2 + 2 * slope * expected))
        return 2 * expected / (self.rate + root)
