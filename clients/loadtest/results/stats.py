"""From records to numbers: percentiles, throughput, goodput, errors, the client's own share.

Latencies are in milliseconds and those of whole answers alone; errors are counted beside them, and
a run with errors must not look fast. Rates are over the whole run, from the first intended time to
the last end. Percentiles interpolate between neighbours, as numpy does by default.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thirdeye.clients.loadtest.driver.record import Record

NUM_SLICES = 200  # of the timeline


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution in milliseconds. `percentiles` are the 0th to the 100th, to be drawn."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    percentiles: list[float]

    @classmethod
    def of(cls, seconds: Iterable[float | None]) -> "Latency | None":
        """None if there is nothing to describe."""
        values = sorted(1000 * value for value in seconds if value is not None)
        if not values:
            return None
        at = [round(percentile(values, share / 100), 3) for share in range(101)]
        return cls(round(math.fsum(values) / len(values), 3), at[50], at[90], at[99], at[100], at)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the ordered values lie.

    >>> percentile([1.0, 2.0, 4.0], 0.75)
    3.0
    """
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class Goals:
    """Limits in milliseconds that an answer has to keep to be good; None is no limit.

    `itl` limits the longest gap of an answer: no stall that a reader notices.
    """

    ttft: float | None = None
    tpot: float | None = None
    itl: float | None = None
    e2e: float | None = None

    @classmethod
    def read(cls, texts: Iterable[str]) -> "Goals":
        """From `ttft:200`, `tpot:50`, ... Raises ValueError."""
        limits: dict[str, float] = {}
        for text in texts:
            name, _, limit = text.partition(":")
            if name not in ("ttft", "tpot", "itl", "e2e"):
                raise ValueError(f"A goal is like ttft:200 (ttft, tpot, itl or e2e), got {text!r}.")
            limits[name] = float(limit)
        return cls(**limits)

    @property
    def is_empty(self) -> bool:
        return self == Goals()

    def are_met(self, record: Record) -> bool:
        longest_gap = max(record.gaps, default=None)
        measured = (record.ttft, record.tpot, longest_gap, record.e2e)
        limits = (self.ttft, self.tpot, self.itl, self.e2e)
        return record.error is None and all(
            limit is None or seconds is None or 1000 * seconds <= limit
            for seconds, limit in zip(measured, limits, strict=True)
        )


def summarize(
    records: Sequence[Record], cpu_seconds: float = 0.0, goals: Goals | None = None
) -> dict[str, Any]:
    """One load's numbers, as they stand in the JSON result. Of no records, zeros and None."""
    whole = [record for record in records if record.error is None]
    seconds = span(records)
    prompt_tokens = sum(record.prompt_tokens or 0 for record in whole)
    output_tokens = sum(record.output_tokens or 0 for record in whole)
    has_goals = goals is not None and not goals.is_empty
    good = [r for r in whole if goals.are_met(r)] if goals and has_goals else []
    return {
        "seconds": round(seconds, 3),
        "requests": len(records),
        "whole": len(whole),
        "errors": dict(sorted(Counter(r.error for r in records if r.error is not None).items())),
        "retries": sum(record.retries for record in records),
        "without_usage": sum(record.output_tokens is None for record in whole),
        "prompt_tokens": prompt_tokens,
        "cached_tokens": sum(record.cached_tokens for record in whole),
        "output_tokens": output_tokens,
        "requests_per_second": _rate(len(whole), seconds),
        "output_tokens_per_second": _rate(output_tokens, seconds),
        "total_tokens_per_second": _rate(prompt_tokens + output_tokens, seconds),
        "goodput_per_second": _rate(len(good), seconds) if has_goals else None,
        "goodput_share": round(len(good) / len(records), 4) if has_goals and records else None,
        "kept_share": kept_share(records),
        "peak_concurrency": max((count for _, count in concurrency(records)), default=0),
        "ttft_ms": _shown(Latency.of(r.ttft for r in whole)),
        "itl_ms": _shown(Latency.of(gap for r in whole for gap in r.gaps)),
        "tpot_ms": _shown(Latency.of(r.tpot for r in whole)),
        "e2e_ms": _shown(Latency.of(r.e2e for r in whole)),
        "ttft_from_send_ms": _shown(Latency.of(r.ttft_from_send for r in whole)),
        "e2e_from_send_ms": _shown(Latency.of(r.e2e_from_send for r in whole)),
        "client": {
            "cpu_share": round(cpu_seconds / seconds, 4) if seconds else 0.0,
            "cpu_us_per_event": _per_event(cpu_seconds, records),
            "send_lag_ms": _shown(Latency.of(r.send_lag for r in records)),
        },
        "timeline": timeline(records),
        "table": table(records),
    }


def span(records: Sequence[Record]) -> float:
    """Seconds from the first intended time to the last end."""
    if not records:
        return 0.0
    return max(r.ended_at for r in records) - min(r.intended_at for r in records)


def kept_share(records: Sequence[Record]) -> float | None:
    """How much of an open loop's load the server kept up with: 1 is all, less is a growing queue.

    The share of the requests that ended while requests arrived, in a window as long as their
    arrivals that begins a quick answer's time (the first quartile, from the sending) later.
    """
    arrivals = [record.intended_at for record in records]
    whole = [record for record in records if record.error is None]
    if len(whole) < 2 or max(arrivals) == min(arrivals):
        return None
    end = max(arrivals) + percentile(sorted(r.e2e_from_send for r in whole), 0.25)
    slack = 1 + 1e-9  # an answer that takes just the quartile is in
    return round(sum(r.ended_at <= end * slack for r in whole) / len(records), 4)


def concurrency(records: Iterable[Record]) -> list[tuple[float, int]]:
    """Requests under way from each moment on: (clock, count), a step function."""
    changes: Counter[float] = Counter()
    for record in records:
        changes[record.sent_at] += 1
        changes[record.ended_at] -= 1
    steps, count = [], 0
    for when in sorted(changes):
        count += changes[when]
        steps.append((when, count))
    return steps


def timeline(records: Sequence[Record]) -> dict[str, Any]:
    """Most requests under way, and texts per second, in each of equal slices of the run."""
    if not records:
        return {"slice_seconds": 0.0, "running": [], "events_per_second": []}
    start = min(record.intended_at for record in records)
    width = span(records) / NUM_SLICES or 1.0
    running, texts = [0] * NUM_SLICES, [0] * NUM_SLICES

    def slice_of(when: float) -> int:
        return min(NUM_SLICES - 1, int((when - start) / width))

    count, now = 0, 0
    for when, following in concurrency(records):
        for index in range(now, slice_of(when) + 1):
            running[index] = max(running[index], count)
        now, count = slice_of(when), following
        running[now] = max(running[now], count)
    for record in records:
        for when in record.text_times:
            texts[slice_of(when)] += 1
    rates = [round(number / width, 2) for number in texts]
    return {"slice_seconds": round(width, 6), "running": running, "events_per_second": rates}


def table(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Request by request, as columns, in the order of their intended times: for other tools."""
    if not records:
        return {}
    start = min(record.intended_at for record in records)
    rows = [
        {
            "at_seconds": round(record.intended_at - start, 4),
            "turn": record.turn,
            "ttft_ms": _ms(record.ttft),
            "tpot_ms": _ms(record.tpot),
            "e2e_ms": _ms(record.e2e),
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "error": record.error,
        }
        for record in sorted(records, key=lambda record: record.intended_at)
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 3) if seconds else 0.0


def _per_event(cpu_seconds: float, records: Iterable[Record]) -> float | None:
    num_events = sum(record.num_events for record in records)
    return round(1e6 * cpu_seconds / num_events, 2) if num_events else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def _shown(latency: Latency | None) -> Mapping[str, Any] | None:
    return asdict(latency) if latency else None
