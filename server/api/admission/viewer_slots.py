"""Seats of those who watch the engine or look into the model."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from thirdeye.server.errors import ServerOverloaded, come_back_in, whose


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
            raise self._full(self._of_key, f" for {whose(caller)}")
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
