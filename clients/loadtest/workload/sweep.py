"""Where a server is saturated: which load to measure next, and when enough is known.

Pure functions of what has been measured. By concurrency: doubled until throughput rises no more;
the saturation point is the least concurrency that gives nearly all of the best. By rate: doubled
until the server does not keep up, then narrowed down; saturation is the highest rate kept.
"""

from collections.abc import Mapping

ENOUGH_GAIN = 1.05  # by doubling: less is saturation
NEARLY_ALL = 0.95  # of the best throughput
RESOLUTION = 1.15  # between the highest rate kept and the lowest that was not
DEEPEST = 64  # how far below the first rate to look for one that is kept


def next_concurrency(throughput: Mapping[int, float], first: int, limit: int) -> int | None:
    """`throughput` by concurrency so far -> the concurrency to measure next, None if enough."""
    if not throughput:
        return min(first, limit)
    last = max(throughput)
    half = max((c for c in throughput if c < last), default=None)
    if last >= limit or (half and throughput[last] < ENOUGH_GAIN * throughput[half]):
        return None
    return min(2 * last, limit)


def saturation_concurrency(throughput: Mapping[int, float]) -> int | None:
    """The least concurrency with nearly all of the best throughput; None if there was none."""
    best = max(throughput.values(), default=0.0)
    if not best:
        return None
    return min(users for users, tokens in throughput.items() if tokens >= NEARLY_ALL * best)


def next_rate(is_kept: Mapping[float, bool], first: float, limit: float) -> float | None:
    """Rates so far and whether the server kept up -> the rate to measure next, None if enough."""
    kept = saturation_rate(is_kept)
    missed = min((rate for rate, ok in is_kept.items() if not ok), default=None)
    if not is_kept:
        return min(first, limit)
    if missed is None:
        return min(2 * max(is_kept), limit) if max(is_kept) < limit else None
    if kept is None:
        return missed / 2 if missed * DEEPEST > first else None
    return (kept * missed) ** 0.5 if missed / kept > RESOLUTION else None


def saturation_rate(is_kept: Mapping[float, bool]) -> float | None:
    """The highest rate below the lowest that was not kept: a lucky run above it does not count."""
    missed = min((rate for rate, ok in is_kept.items() if not ok), default=float("inf"))
    return max((rate for rate, ok in is_kept.items() if ok and rate < missed), default=None)
