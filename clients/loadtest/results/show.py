"""A result as a person reads it in a terminal: a line for each load, a card for a single one."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thirdeye.clients.loadtest.results.result import Result

BUSY = 0.8  # of a core: from here on the client may be what is measured
LATE_MS = 50.0  # a p99 of the send lag from which the client may be what is measured

LATENCIES = {
    "ttft_ms": "first token (TTFT)",
    "itl_ms": "between tokens (ITL)",
    "tpot_ms": "per token (TPOT)",
    "e2e_ms": "whole answer (E2E)",
}


def show_result(result: Result, console: Console) -> None:
    """The table of all points; with one point all of its latencies; what to doubt."""
    points = result["points"]
    console.print(Text(f"{result['model']} at {result['url']}", style="bold"), soft_wrap=True)
    console.print("latencies in milliseconds", style="dim")
    console.print(summary_table(result))
    if len(points) == 1:
        console.print()
        console.print(latency_table(points[0]))
        console.print()
        console.print(token_line(points[0]), highlight=False, soft_wrap=True)
    if line := saturation_line(result):
        console.print(Text(line, style="bold"), soft_wrap=True)
    for point in points:
        for doubt in doubts(point):
            console.print(Text(f"{point['load']}: {doubt}", style="yellow"), soft_wrap=True)


def summary_table(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("load", no_wrap=True)
    for name in ("req/s", "tok/s", "TTFT p50", "p99", "ITL p50", "p99", "E2E p50"):
        table.add_column(name, justify="right", no_wrap=True)
    has_goals = any(point["goodput_share"] is not None for point in result["points"])
    if has_goals:
        table.add_column("good", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    for point in result["points"]:
        cells = [
            f"{point['requests_per_second']:.2f}",
            f"{point['output_tokens_per_second']:.1f}",
            bare(point["ttft_ms"], "p50"),
            bare(point["ttft_ms"], "p99"),
            bare(point["itl_ms"], "p50"),
            bare(point["itl_ms"], "p99"),
            bare(point["e2e_ms"], "p50"),
        ]
        if has_goals:
            cells.append(f"{100 * point['goodput_share']:.0f} %")
        failed = sum(point["errors"].values())
        table.add_row(point["load"], *cells, Text(str(failed), style="red" if failed else ""))
    return table


def latency_table(point: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, name in LATENCIES.items():
        cells = [milliseconds(point[key], part) for part in ("mean", "p50", "p90", "p99", "max")]
        table.add_row(name, *cells)
    return table


def token_line(point: Mapping[str, Any]) -> str:
    """Where tokens came from and went to, and what the client itself did."""
    client = point["client"]
    line = (
        f"{point['prompt_tokens']} prompt tokens ({point['cached_tokens']} cached) and "
        f"{point['output_tokens']} output tokens in {point['seconds']:.1f} s: "
        f"{point['total_tokens_per_second']:.1f} tok/s in all. "
        f"Client: {100 * client['cpu_share']:.0f} % of a core"
    )
    if client["send_lag_ms"] is not None:
        line += f", sent {milliseconds(client['send_lag_ms'], 'p99')} late at p99"
    return line + "."


def milliseconds(latency: Mapping[str, float] | None, part: str) -> str:
    """In the unit that reads well; `-` where nothing was measured.

    >>> milliseconds({"p50": 12345.6}, "p50"), milliseconds({"p50": 12.34}, "p50")
    ('12.3 s', '12.3 ms')
    """
    if latency is None:
        return "-"
    value = latency[part]
    if value >= 9_999.5:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 99.95 else f"{value:.1f} ms"


def bare(latency: Mapping[str, float] | None, part: str) -> str:
    """Milliseconds without their unit."""
    if latency is None:
        return "-"
    return f"{latency[part]:,.0f}" if latency[part] >= 99.95 else f"{latency[part]:.1f}"


def point_line(point: Mapping[str, Any]) -> str:
    """One point in one line."""
    line = (
        f"{point['load']:>12}: {point['whole']} of {point['requests']} answers whole, "
        f"{point['output_tokens_per_second']:.1f} tok/s, "
        f"TTFT {milliseconds(point['ttft_ms'], 'p50')}, ITL {milliseconds(point['itl_ms'], 'p50')}"
    )
    if point["errors"]:
        line += "; failed: " + ", ".join(f"{n} x {code}" for code, n in point["errors"].items())
    return line


def saturation_line(result: Result) -> str:
    """What a sweep found, in a sentence; nothing where there was none."""
    found = result["saturation"]
    if found is None:
        return ""
    if "rate" not in found:
        best = f"{found['best']:.1f} tok/s at best."
        users = found["concurrency"]
        return f"Saturated from {users} users on: {best}" if users else f"Not saturated: {best}"
    if found["rate"] is None:
        return "Not even the lowest rate was kept."
    more = ", the highest that was tried" if found["is_limit"] else ""
    return f"Kept up with {found['rate']:.3g} requests/s{more}."


def doubts(point: Mapping[str, Any]) -> list[str]:
    """Reasons not to take the numbers for the server's."""
    client, found = point["client"], []
    lag = client["send_lag_ms"]
    if client["cpu_share"] > BUSY:
        found.append(
            f"the client used {100 * client['cpu_share']:.0f} % of a core: it may be the limit"
        )
    if lag is not None and lag["p99"] > LATE_MS:
        found.append(f"the client sent late, by {lag['p99']:.0f} ms at p99: it may be the limit")
    if point["without_usage"]:
        found.append(f"{point['without_usage']} answers had no usage: their tokens are not counted")
    if point["kept_share"] is not None and point["kept_share"] < 0.9:
        share = 100 * point["kept_share"]
        found.append(f"the queue grew: {share:.0f} % were answered as they arrived")
    return found
