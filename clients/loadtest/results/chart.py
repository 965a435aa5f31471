"""What there is to see in a result, as data: curves over axes. `svg` and `figures` draw it."""

from dataclasses import dataclass
from typing import Any

from thirdeye.clients.loadtest.results.result import Result

SMOOTH = 8  # slices of the timeline in one value of a rate
MOST_CURVES = 8  # in one picture: more cannot be told apart


@dataclass(frozen=True, slots=True)
class Curve:
    """Points joined in their order; with `has_markers` each is shown, and may have a label."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()
    has_markers: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """`note` says in a sentence how to read it. A logarithmic axis shows what is above 0."""

    name: str  # of a file
    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    note: str
    is_log_x: bool = False
    is_log_y: bool = False


def charts_of(result: Result) -> list[Chart]:
    """Those that have something to show."""
    points = result["points"]
    found = [
        _against_throughput(points, "ttft_ms", "Time to first token"),
        _against_throughput(points, "itl_ms", "Inter-token latency"),
        _distribution(points, "ttft_ms", "Time to first token"),
        _distribution(points, "itl_ms", "Inter-token latency"),
        _timeline(points, "running", "Requests under way", "requests"),
        _timeline(points, "events_per_second", "Texts arriving", "events per second"),
    ]
    return [chart for chart in found if chart.curves]


def _against_throughput(points: list[dict[str, Any]], key: str, name: str) -> Chart:
    shown = sorted(
        (p for p in points if p[key]), key=lambda p: float(p["output_tokens_per_second"])
    )
    rates = tuple(point["output_tokens_per_second"] for point in shown)
    loads = tuple(point["load"] for point in shown)
    curves = tuple(
        Curve(part, rates, tuple(point[key][part] for point in shown), loads, has_markers=True)
        for part in ("p50", "p90", "p99")
    )
    return Chart(
        name=f"throughput_{key.removesuffix('_ms')}",
        title=f"{name} against throughput",
        x_label="output tokens per second",
        y_label="milliseconds",
        curves=curves if shown else (),
        note="Each dot is a load. To the right is better, and so is down.",
        is_log_y=True,
    )


def _distribution(points: list[dict[str, Any]], key: str, name: str) -> Chart:
    shown = _some([point for point in points if point[key]])
    curves = (
        Curve(point["load"], tuple(point[key]["percentiles"]), tuple(map(float, range(101))))
        for point in shown
    )
    return Chart(
        name=f"{key.removesuffix('_ms')}_distribution",
        title=f"{name}, distribution",
        x_label="milliseconds",
        y_label="percent that took no longer",
        curves=tuple(curves),
        note="Further left and steeper is better; a long way to the right at the top is a tail.",
        is_log_x=True,
    )


def _timeline(points: list[dict[str, Any]], key: str, title: str, unit: str) -> Chart:
    curves = []
    for point in _some(points):
        width, values = point["timeline"]["slice_seconds"], point["timeline"][key]
        if key == "events_per_second":  # a rate is smooth only over several slices
            width, values = width * SMOOTH, _means(values)
        times = tuple(width * (index + 0.5) for index in range(len(values)))
        if values:
            curves.append(Curve(point["load"], times, tuple(map(float, values))))
    return Chart(
        name=f"timeline_{key}",
        title=f"{title} over time",
        x_label="seconds since the load began",
        y_label=unit,
        curves=tuple(curves),
        note="A line that goes on rising is a queue; a hole is a stall.",
    )


def _means(values: list[float]) -> list[float]:
    return [sum(values[i : i + SMOOTH]) / SMOOTH for i in range(0, len(values), SMOOTH)]


def _some(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_CURVES of them, evenly chosen, the first and the last included."""
    if len(points) <= MOST_CURVES:
        return points
    step = (len(points) - 1) / (MOST_CURVES - 1)
    return [points[round(index * step)] for index in range(MOST_CURVES)]
