"""The charts as files, PNG and SVG, for papers and slides: matplotlib, by the extra `bench`."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thirdeye.clients.loadtest.results.chart import Chart, charts_of
from thirdeye.clients.loadtest.results.result import Result


def save_figures(result: Result, folder: Path) -> list[Path]:
    """Writes each chart as `NAME.png` and `NAME.svg`; returns what was written. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in charts_of(result):
        figure = plot(chart, f"{result['model']} at {result['url']}")
        for kind in ("png", "svg"):
            path = folder / f"{chart.name}.{kind}"
            figure.savefig(path, format=kind, dpi=150)
            written.append(path)
    return written


def plot(chart: Chart, subtitle: str) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in chart.curves:
        axes.plot(curve.x, curve.y, marker="o" if curve.has_markers else None, label=curve.name)
    for x, y, load in zip(
        chart.curves[0].x, chart.curves[0].y, chart.curves[0].labels, strict=False
    ):
        axes.annotate(load, (x, y), (4, -9), textcoords="offset points", fontsize=7)
    axes.set_title(f"{chart.title}\n{subtitle}", fontsize=10)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.is_log_x:
        axes.set_xscale("log")
    if chart.is_log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
