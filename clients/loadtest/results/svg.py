"""Charts as SVG text, to stand in a page: no script, no font, no library.

Colours are CSS classes (`c0` to `c7`), so the page decides about light and dark. A dot says what it
is when it is pointed at. Numbers in, text out.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from thirdeye.clients.loadtest.results.chart import Chart, Curve

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 56, 16, 48  # at the right is room for a dot's name


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to pixels, linearly or by their logarithm; `low` < `high` in values."""

    low: float
    high: float
    start: float  # the pixel of `low`
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.is_log
            else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return _log_ticks(self.low, self.high) if self.is_log else _ticks(self.low, self.high)


def axis(values: Iterable[float], start: float, end: float, is_log: bool) -> Axis:
    """An axis that shows all values; a linear one begins at 0, a logarithmic one above it."""
    shown = [value for value in values if not is_log or value > 0] or [1.0]
    high = max(shown)
    if is_log:
        low = min(shown)
        return Axis(low / 1.15, high * 1.15, start, end, True)
    return Axis(min(0.0, *shown), high * 1.05 or 1.0, start, end, False)


def draw(chart: Chart) -> str:
    """The whole picture as one `<svg>` element."""
    x_axis = axis(
        (x for curve in chart.curves for x in curve.x), LEFT, WIDTH - RIGHT, chart.is_log_x
    )
    y_axis = axis(
        (y for curve in chart.curves for y in curve.y), HEIGHT - BOTTOM, TOP, chart.is_log_y
    )
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *_grid(x_axis, y_axis),
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(chart.x_label)}</text>',
        f'<text class="label" transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(chart.y_label)}</text>',
    ]
    for number, curve in enumerate(chart.curves):
        parts += _curve(curve, number, x_axis, y_axis)
    return "\n".join([*parts, "</svg>"])


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts: list[str] = []
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"'
        parts += _tick(tick, line, f'x="{x:.1f}" y="{base + 16}" text-anchor="middle"')
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        line = f'x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"'
        parts += _tick(tick, line, f'x="{LEFT - 6}" y="{y:.1f}" dy="0.35em" text-anchor="end"')
    return parts


def _tick(value: float, line: str, label: str) -> tuple[str, str]:
    return f'<line class="grid" {line}/>', f'<text class="tick" {label}>{_number(value)}</text>'


def _curve(curve: Curve, number: int, x_axis: Axis, y_axis: Axis) -> list[str]:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline class="c{number}" points="{path}"/>']
    if curve.has_markers:
        for index, (x, y) in enumerate(places):
            load = f"{curve.labels[index]}, " if curve.labels else ""
            said = f"{load}{curve.name}: {curve.y[index]:g} at {curve.x[index]:g}"
            parts.append(
                f'<circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
                f"<title>{escape(said)}</title></circle>"
            )
    if number == 0:  # the other curves stand over the same loads
        for (x, y), label in zip(places, curve.labels, strict=False):
            parts.append(_name(x, y, label))
    return parts


def _name(x: float, y: float, label: str) -> str:
    """A dot's name, below it to the right, where curves that rise leave room."""
    return f'<text class="name" x="{x + 5:.1f}" y="{y + 14:.1f}">{escape(label)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and 2 and 5 times them where there is room; even steps in a short range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    shown = [tick for tick in ticks if low <= tick <= high]
    return shown if len(shown) > 1 else _ticks(low, high)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
