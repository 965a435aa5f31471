"""What people look at: the page is whole and safe and shows the result; the figures are there."""

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from tests.clients.loadtest.test_compare import result
from tests.draws import draws
from thirdeye.clients.loadtest.cli import app
from thirdeye.clients.loadtest.results.chart import Chart, Curve, charts_of
from thirdeye.clients.loadtest.results.figures import save_figures
from thirdeye.clients.loadtest.results.report import page
from thirdeye.clients.loadtest.results.show import show_result
from thirdeye.clients.loadtest.results.stats import summarize
from thirdeye.clients.loadtest.results.svg import draw

VOID = {"meta", "br"}


class Tags(HTMLParser):
    """Every tag that opens is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def two_loads() -> dict[str, Any]:
    made = result(0.2)
    made["points"].append({**result(0.4, seed=3)["points"][0], "load": "2 users"})
    made["saturation"] = {"concurrency": 2, "best": 3.0}
    return made


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(two_loads())
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "img", "link", "iframe"})
    assert "http" not in re.sub(r"http://127\.0\.0\.1:8000/v1|http-equiv", "", text)
    for word in ("2 users", "Saturated from 2 users on", "Time to first token, distribution"):
        assert word in text
    assert re.findall(r'class="name"[^>]*>([^<]+)<', text)[:2] == ["2 users", "1 user"]
    assert text.count("<td>1 user</td>") == text.count("<td>2 users</td>") == 2
    assert text.count("<svg") == len(charts_of(two_loads())) == 6


def test_a_name_cannot_become_markup() -> None:
    """Model names and URLs come from a server that may be anybody's."""
    made = two_loads()
    made["model"] = made["url"] = '<img src=x onerror="alert(1)">'
    assert "<img" not in page(made)


def test_a_run_in_which_nothing_worked_is_shown_too() -> None:
    made = two_loads()
    made["points"] = [{"load": "1 user", "concurrency": 1, "rate": None, **summarize([])}]
    assert "Not one answer was whole." in page(made)
    show_result(made, Console(file=StringIO()))


numbers = st.floats(1e-3, 1e7)


@draws(10, 50)
@given(
    points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20),
    is_log=st.tuples(st.booleans(), st.booleans()),
    name=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="￾￿")),
)
def test_any_points_are_drawn_inside_the_picture(
    points: list[tuple[float, float]], is_log: tuple[bool, bool], name: str
) -> None:
    x, y = zip(*points, strict=True)
    curve = Curve(name, x, y, has_markers=True)
    chart = Chart("a", name, name, name, (curve,), "", *is_log)
    svg = ElementTree.fromstring(draw(chart))
    circles = svg.findall("circle")
    assert len(circles) == len(points)
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 560
        assert 0 <= float(circle.attrib["cy"]) <= 320
    assert 1 <= len(svg.findall("line")) <= 60


def test_figures_are_written(tmp_path: Path) -> None:
    made = result(0.2)
    made["points"][0] |= {"itl_ms": None, "timeline": {**summarize([])["timeline"]}}
    written = save_figures(made, tmp_path / "figures")
    names = ["throughput_ttft", "ttft_distribution"]
    assert [path.name for path in written] == [f"{n}.{x}" for n in names for x in ("png", "svg")]
    for path in written:
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else start[:5] == b"<?xml"


@pytest.mark.parametrize("num_points", [1, 2])
def test_the_terminal_fits_in_80_columns(num_points: int) -> None:
    made = two_loads()
    made["points"] = made["points"][:num_points]
    out = StringIO()
    show_result(made, Console(file=out, width=80))
    assert "…" not in out.getvalue()
    assert ("whole answer (E2E)" in out.getvalue()) is (num_points == 1)


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    file, html = tmp_path / "r.json", tmp_path / "r.html"
    file.write_text(json.dumps(two_loads()))
    done = CliRunner().invoke(app, ["report", str(file), "--html", str(html)])
    assert done.exit_code == 0, done.output
    assert html.read_text() == page(two_loads())
