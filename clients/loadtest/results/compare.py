"""Two results side by side, load by load: what changed, and whether it is more than chance.

Latencies have one value per request, so the ratio of two medians gets a 95 % interval by bootstrap:
the requests of both runs are drawn again and again, with replacement, and the middle 95 % of the
ratios are kept. If 1 lies inside, the runs do not differ as far as they can tell. Throughput is one
number a run, so its ratio is shown as it is: repeat runs to learn its spread.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thirdeye.clients.loadtest.results.result import Result
from thirdeye.clients.loadtest.results.stats import percentile

RESAMPLES = 500
LEAST = 8  # requests: fewer say nothing about chance

RATES = {
    "output_tokens_per_second": "output tok/s",
    "total_tokens_per_second": "all tok/s",
    "requests_per_second": "requests/s",
    "goodput_per_second": "good answers/s",
}
MEDIANS = {"ttft_ms": "TTFT p50 ms", "tpot_ms": "TPOT p50 ms", "e2e_ms": "E2E p50 ms"}


@dataclass(frozen=True, slots=True)
class Change:
    """One number of one load. `interval` is of the ratio B/A, None where there is none."""

    load: str
    name: str
    before: float
    after: float
    is_better: bool | None  # None: no change, or no more than chance
    interval: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        return self.after / self.before


def compare(before: Result, after: Result, seed: int = 0) -> list[Change]:
    """The changes of the loads that both have, in the order of the first."""
    points = {point["load"]: point for point in after["points"]}
    pairs = [(a, points[a["load"]]) for a in before["points"] if a["load"] in points]
    return [change for a, b in pairs for change in (*_rates(a, b), *_medians(a, b, seed))]


def _rates(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [
        Change(a["load"], name, a[key], b[key], None if a[key] == b[key] else b[key] > a[key])
        for key, name in RATES.items()
        if a[key] and b[key]
    ]


def _medians(a: Mapping[str, Any], b: Mapping[str, Any], seed: int) -> list[Change]:
    changes = []
    for key, name in MEDIANS.items():
        before, after = _column(a, key), _column(b, key)
        if not before or not after or not statistics.median(before):
            continue
        interval = ratio_interval(before, after, seed)
        is_chance = interval is None or interval[0] <= 1 <= interval[1]
        medians = statistics.median(before), statistics.median(after)
        is_better = None if is_chance else medians[1] < medians[0]
        changes.append(Change(a["load"], name, *medians, is_better, interval))
    return changes


def _column(point: Mapping[str, Any], key: str) -> list[float]:
    """One latency of each whole answer."""
    table = point["table"]
    pairs = zip(table.get(key, []), table.get("error", []), strict=True)
    return [value for value, error in pairs if value is not None and error is None]


def ratio_interval(
    before: Sequence[float], after: Sequence[float], seed: int
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of median(after) / median(before); None for too few values."""
    if min(len(before), len(after)) < LEAST:
        return None
    draws = random.Random(seed)

    def median(values: Sequence[float]) -> float:
        return statistics.median(draws.choices(values, k=len(values)))

    ratios = sorted(median(after) / (median(before) or 1e-9) for _ in range(RESAMPLES))
    return percentile(ratios, 0.025), percentile(ratios, 0.975)


def show_changes(before: Result, after: Result, console: Console) -> None:
    """A: the first result, B: the second. Green is better, red is worse, plain is neither."""
    changes = compare(before, after)
    for name, result in (("A", before), ("B", after)):
        console.print(f"{name}: {result['model']} at {result['url']}, {result['created']}")
    table = Table(box=None)
    table.add_column("load", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("A", "B", "B/A", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = ""
    for change in changes:
        style = {True: "green", False: "red", None: ""}[change.is_better]
        low_high = "" if change.interval is None else "{:.2f} to {:.2f}".format(*change.interval)
        numbers = f"{change.before:.1f}", f"{change.after:.1f}"
        ratio = Text(f"{change.ratio:.2f}", style)
        load = "" if change.load == previous else change.load
        table.add_row(load, change.name, *numbers, ratio, low_high)
        previous = change.load
    console.print(table if changes else "No load is in both.")
    if differing := differences(before, after):
        console.print("Asked differently: " + ", ".join(differing), style="yellow")


def differences(before: Result, after: Result) -> list[str]:
    """Settings that differ: then it is not the server alone that changed."""
    a, b = before["settings"], after["settings"]
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
