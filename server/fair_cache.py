"""What was made for tenants, kept within a count and a size: each finds its own alone.

How long a making takes would else tell whether another tenant asked for the same. Where there is no
room, whoever holds the most gives up what it used longest ago: one tenant cannot push out another
that holds less.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class FairCache(Generic[Key, Made]):
    """One thread uses it."""

    def __init__(
        self, max_count: int, max_bytes: int, num_bytes: Callable[[Key, Made], int]
    ) -> None:
        """`num_bytes`: what one entry counts."""
        self._max_count, self._max_bytes, self._cost = max_count, max_bytes, num_bytes
        self._tenants: dict[str, OrderedDict[Key, Made]] = {}
        self._num_bytes: dict[str, int] = {}  # of each tenant

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    @property
    def num_bytes(self) -> int:
        """That all entries count."""
        return sum(self._num_bytes.values())

    def get(self, tenant: str, key: Key) -> Made | None:
        own = self._tenants.get(tenant)
        if own is None or key not in own:
            return None
        own.move_to_end(key)
        return own[key]

    def put(self, tenant: str, key: Key, made: Made) -> None:
        self.drop(tenant, key)
        self._tenants.setdefault(tenant, OrderedDict())[key] = made
        self._num_bytes[tenant] = self._num_bytes.get(tenant, 0) + self._cost(key, made)
        while len(self) > self._max_count or self.num_bytes > self._max_bytes:
            largest = max(self._tenants, key=self._share)
            self.drop(largest, next(iter(self._tenants[largest])))

    def _share(self, tenant: str) -> float:
        """Of all there is room for, by what it has more of: entries or bytes."""
        count, size = len(self._tenants[tenant]), self._num_bytes[tenant]
        return max(count / self._max_count, size / self._max_bytes)

    def drop(self, tenant: str, key: Key) -> None:
        """Nothing where it is not there."""
        own = self._tenants.get(tenant)
        if own is None or key not in own:
            return
        self._num_bytes[tenant] -= self._cost(key, own.pop(key))
        if not own:
            del self._tenants[tenant], self._num_bytes[tenant]
