"""Which replica a request goes to: the one that may hold its prefix, unless it has too much to do.

Consistent hashing: each replica has points on a ring of 64-bit numbers, and a key belongs to the
first point after its own hash. A replica more or less moves the keys of its own points and no
others. With bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded
Loads", 2018) nobody is given more than `bound` times the mean: a key whose replica is full goes to
the next one on the ring, always the same one, so that its prefix gets warm there too.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

NUM_POINTS = 100  # of each replica: its share of the ring is within a third of the mean, mostly
BOUND = 1.25  # times the mean load


class ReplicaRing:
    """The replicas' points. Made anew when a replica comes or goes; it does not depend on order."""

    def __init__(self, replicas: Sequence[str], num_points: int = NUM_POINTS) -> None:
        """Raises ValueError without replicas, or with one twice."""
        if not replicas or len(set(replicas)) != len(replicas):
            raise ValueError("a ring needs replicas, each of them once")
        points = sorted(
            (_hash(f"{replica}#{i}".encode()), replica)
            for replica in replicas
            for i in range(num_points)
        )
        self.size = len(replicas)
        self._hashes = [number for number, _ in points]
        self._owners = [replica for _, replica in points]

    def from_key(self, key: bytes) -> Iterator[str]:
        """Every replica, once, in the order in which a key asks them."""
        start = bisect_right(self._hashes, _hash(key))
        seen: set[str] = set()
        for i in range(len(self._owners)):
            replica = self._owners[(start + i) % len(self._owners)]
            if replica not in seen:
                seen.add(replica)
                yield replica


def pick_replica(
    ring: ReplicaRing,
    key: bytes,
    loads: Mapping[str, int],
    num_requests: int | None = None,
    bound: float = BOUND,
    idle_below: int = 0,
) -> str:
    """The replica for one more request.

    `loads` are the requests under way at each replica of the ring (absent is 0) and `num_requests`
    their sum, if it is known. With `bound` of at least 1 there is always one with room: if all were
    at the limit, they would have more than there is. One with less than `idle_below` under way has
    room in any case: of three requests at two replicas two may go to one.
    """
    if bound < 1:
        raise ValueError(f"'bound' must be at least 1, got {bound:g}")
    total = sum(loads.values()) if num_requests is None else num_requests
    limit = max(bound * (total + 1) / ring.size, idle_below)
    order = ring.from_key(key)
    return next(replica for replica in order if loads.get(replica, 0) < limit)


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
