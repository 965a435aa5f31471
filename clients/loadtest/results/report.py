"""One page that shows a result: no script, nothing to load, light and dark as the reader likes."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from thirdeye.clients.loadtest.results.chart import Chart, charts_of
from thirdeye.clients.loadtest.results.result import Result
from thirdeye.clients.loadtest.results.show import LATENCIES, doubts, milliseconds, saturation_line
from thirdeye.clients.loadtest.results.svg import draw


def page(result: Result) -> str:
    """The whole HTML document."""
    points = result["points"]
    title = f"{result['model']}: {len(points)} load{'s' if len(points) != 1 else ''}"
    style = Path(__file__).with_name("report.css").read_text()
    warnings = [f"{p['load']}: {doubt}" for p in points for doubt in doubts(p)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{escape(result["model"])}</h1>
<p class="soft">{escape(result["url"])} &middot; {escape(result["created"])} &middot;
client on {escape(result["client"])}</p>
{_best(points)}
<p><b>{escape(saturation_line(result))}</b></p>
{"".join(f'<p class="warn">{escape(line)}</p>' for line in warnings)}
<h2>Loads</h2>
<div class="scroll">{_loads(points)}</div>
<h2>Pictures</h2>
<div class="charts">
{"".join(map(_figure, charts_of(result)))}
</div>
<h2>Latencies</h2>
<div class="scroll named">{_latencies(points)}</div>
<h2>Settings</h2>
<pre>{escape(json.dumps(result["settings"], indent=2))}</pre>
</body>
</html>
"""


def _best(points: list[dict[str, Any]]) -> str:
    """The numbers that everybody asks for first."""
    if not any(point["whole"] for point in points):
        return '<p class="warn">Not one answer was whole.</p>'
    fastest = max(points, key=lambda point: float(point["output_tokens_per_second"]))
    lightest = min(
        (point for point in points if point["ttft_ms"]),
        key=lambda point: float(point["ttft_ms"]["p50"]),
        default=None,
    )
    cards = [
        (f"{fastest['output_tokens_per_second']:,.1f}", f"output tok/s, {fastest['load']}"),
        (f"{fastest['total_tokens_per_second']:,.1f}", "tok/s with prompts"),
    ]
    if lightest is not None:
        first = milliseconds(lightest["ttft_ms"], "p50")
        between = milliseconds(lightest["itl_ms"], "p50")
        cards += [
            (first, f"to the first token, {lightest['load']}"),
            (between, f"between tokens, {lightest['load']}"),
        ]
    shown = "".join(f"<div><b>{escape(n)}</b>{escape(what)}</div>" for n, what in cards)
    return f'<div class="numbers">{shown}</div>'


def _loads(points: list[dict[str, Any]]) -> str:
    head = ["load", "answers", "failed", "retries", "req/s", "output tok/s", "all tok/s", "cached"]
    head += ["good/s", "good", "at once", "client CPU", "sent late p99"]
    return _table(head, [_load_row(point) for point in points])


def _load_row(point: Mapping[str, Any]) -> list[str]:
    client = point["client"]
    failed = ", ".join(f"{count} x {code}" for code, count in point["errors"].items())
    share, rate = point["goodput_share"], point["goodput_per_second"]
    return [
        point["load"],
        str(point["whole"]),
        failed or "0",
        str(point["retries"]),
        f"{point['requests_per_second']:.2f}",
        f"{point['output_tokens_per_second']:.1f}",
        f"{point['total_tokens_per_second']:.1f}",
        f"{point['cached_tokens']} of {point['prompt_tokens']}",
        "-" if rate is None else f"{rate:.2f}",
        "-" if share is None else f"{100 * share:.0f} %",
        str(point["peak_concurrency"]),
        f"{100 * client['cpu_share']:.0f} %",
        milliseconds(client["send_lag_ms"], "p99"),
    ]


def _latencies(points: list[dict[str, Any]]) -> str:
    rows = []
    for point in points:
        # In a closed loop a request is sent when it is meant to be.
        shown = LATENCIES if point["rate"] is None else {**LATENCIES, **FROM_SEND}
        numbers = [
            [name, *(milliseconds(point[key], part) for part in PARTS)]
            for key, name in shown.items()
        ]
        loads = [point["load"], *[""] * (len(shown) - 1)]
        rows += [[load, *row] for load, row in zip(loads, numbers, strict=True)]
    return _table(["load", "", *PARTS], rows)


PARTS = ("mean", "p50", "p90", "p99", "max")
FROM_SEND = {
    "ttft_from_send_ms": "TTFT from the sending",
    "e2e_from_send_ms": "E2E from the sending",
}


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _figure(chart: Chart) -> str:
    legend = "".join(
        f'<li><i class="c{number}"></i>{escape(curve.name)}</li>'
        for number, curve in enumerate(chart.curves)
    )
    note = f'<p class="soft">{escape(chart.note)}</p>'
    caption = f"<figcaption><ul>{legend}</ul>{note}</figcaption>"
    return f"<figure><h3>{escape(chart.title)}</h3>\n{draw(chart)}\n{caption}</figure>\n"
