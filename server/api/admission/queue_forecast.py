"""How many places come free within a given time, as sure as 99 in 100, from measured durations.

A place is a row of the engine's batch, a duration how long an answer held one. Of an answer that
has run for `age` seconds the chance to end within `h` more is the share, among measured durations
above `age`, of those up to `age + h`; behind its end the place serves one answer after the other,
mean duration apart. Over all places that is an expected number of ends with a variance, and

    room = mean - 2.33 standard deviations

of a normal distribution is what the number exceeds with 99 %. Where all answers are alike and began
together it knows that none ends before its time; where nothing is known it promises nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

SURE = 2.33  # standard deviations: 99 % of a normal distribution


class QueueForecast:
    """Over durations in seconds, any order. Each call costs O(log n)."""

    def __init__(self, durations: Sequence[float]) -> None:
        self._sorted = sorted(durations)
        self._sums = [0.0, *accumulate(self._sorted)]
        n = len(self._sorted)
        self.mean = self._sums[-1] / n if n else math.inf
        squares = sum((d - self.mean) ** 2 for d in self._sorted)
        # Squared coefficient of variation: how irregular the ends are.
        self._scv = squares / n / self.mean**2 if n and self.mean > 0 else 0.0
        self._mean_error = math.sqrt(self._scv / n) if n else 0.0  # relative

    def room(self, running: Iterable[tuple[int, float]], within: float) -> float:
        """`running`: the places that an answer holds, and its age in seconds; `within`: seconds.

        How many ends are certain enough; inf if answers take no time at all.
        """
        if self.mean <= 0:
            return math.inf
        mean = variance = error = 0.0
        for size, age in running:
            chance, seconds_left, num_longer = self._first_end(age, within)
            # Of answers that are all alike the last ends too late: a part of one is none.
            later = size * max(seconds_left / self.mean - chance * max(1 - self._scv, 0.0), 0.0)
            mean += size * chance + later
            spread = chance * (1 - chance)
            variance += size**2 * spread + size * self._scv * later
            # Few durations are known, and what is wrong with them is wrong for all places alike.
            error += size * math.sqrt(spread / num_longer) + later * self._mean_error
        sure = mean - SURE * math.sqrt(variance + error**2)
        return max(sure, min(mean, 1.0))

    def _first_end(self, age: float, within: float) -> tuple[float, float, int]:
        """The chance that the answer ends in time, the mean of what is left of the time then, and
        how many durations say so.

        One duration longer than all is counted with the measured ones: few of them are no proof.
        """
        first = bisect_right(self._sorted, age)
        last = bisect_right(self._sorted, age + within)
        num_longer = len(self._sorted) - first + 1
        num_ended = last - first
        left = num_ended * (age + within) - (self._sums[last] - self._sums[first])
        return num_ended / num_longer, max(left, 0.0) / num_longer, num_longer
