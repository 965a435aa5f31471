"""When a load gives way: a pure rule, which is told the time."""

import math

from thirdeye.server.launch.several.giving_way import Priority

HOLD = 0.5  # seconds that a load stays behind once nobody is asked: the next may come at once
IDLE_SECONDS = 20.0  # of its time behind, in all; from then on it is low there, so that it does end
SOON = 1e-3  # seconds; what is due within is due now


class LoadRule:
    """One load's. Tell it whenever others begin or cease to be asked, and when it is due."""

    def __init__(self) -> None:
        self._idle_left = IDLE_SECONDS
        self._behind_until = -math.inf
        self._told_at = 0.0
        self._priority = Priority.NORMAL

    def tell(self, *, is_asked: bool, now: float) -> Priority:
        """Whether another model has requests under way. `now` is in seconds, never goes back."""
        if self._priority is Priority.IDLE:
            self._idle_left -= now - self._told_at
        self._told_at = now
        if is_asked:
            self._behind_until = math.inf
        elif self._behind_until == math.inf:
            self._behind_until = now + HOLD
        if self._behind_until - now < SOON:
            self._priority = Priority.NORMAL
        else:
            self._priority = Priority.IDLE if self._idle_left >= SOON else Priority.LOW
        return self._priority

    @property
    def due(self) -> float:
        """When its priority changes if nobody tells it anything, infinite if it does not."""
        if self._priority is Priority.NORMAL:
            return math.inf
        end = self._told_at + self._idle_left if self._priority is Priority.IDLE else math.inf
        return min(end, self._behind_until)
