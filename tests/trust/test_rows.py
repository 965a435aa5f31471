"""The plan names tests that exist, and the page shows the plan."""

import ast
import threading
from functools import cache
from pathlib import Path

import pytest

from tests.trust import run
from tests.trust.page import PAGE, read_results, replaced, scheduled
from tests.trust.row import Row
from tests.trust.rows import ROWS

ROOT = Path(__file__).parents[2]


@cache
def functions(file: str) -> dict[str, str]:
    """The tests of a file, each with its decorators, the module's marks among them."""
    module = ast.parse((ROOT / file).read_text())
    marks = "".join(ast.unparse(n) for n in module.body if ast.unparse(n).startswith("pytestmark"))
    return {
        node.name: marks + "".join(map(ast.unparse, node.decorator_list))
        for node in module.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_row_is_there_once() -> None:
    assert [row.number for row in ROWS] == list(range(1, 39))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_every_test_of_a_row_exists(row: Row) -> None:
    assert row.full
    assert row.push
    for node in {*row.full, *row.push}:
        file, _, name = node.partition("::")
        assert (ROOT / file).exists(), node
        assert not name or name.partition("[")[0] in functions(file), node


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_every_push_runs_its_part(row: Row) -> None:
    """A test that only `make prove` runs guards no push."""
    for node in row.push:
        file, _, name = node.partition("::")
        if name:
            assert "mark.prove" not in functions(file)[name].partition("parametrize")[0], node


def test_the_page_is_the_plan() -> None:
    """`python -m tests.trust.page` writes it."""
    page = PAGE.read_text()
    assert page == replaced(page)


def test_the_page_says_how_long_all_take() -> None:
    """Two are alone; of the others the longest has a lane to itself here."""
    alone = [row for row in ROWS if row.by_the_clock][:2]
    others = [row for row in ROWS if not row.by_the_clock][:4]
    seconds = dict(zip((row.number for row in [*alone, *others]), (5, 7, 10, 2, 3, 4), strict=True))
    assert scheduled([*alone, *others], seconds) == (12, 10)


def test_results_are_of_rows() -> None:
    assert {int(number) for number in read_results()} <= {row.number for row in ROWS}


def test_rows_with_limits_of_time_run_alone_and_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others two at once: each of the first two waits for the other here."""
    pair, begun = threading.Barrier(2, timeout=60), []

    def run_row(row: Row) -> run.Result:
        begun.append(row.number)
        if not row.by_the_clock and len(begun) <= num_alone + 2:
            pair.wait()
        return {"number": row.number}

    monkeypatch.setattr(run, "run_row", run_row)
    monkeypatch.setattr(run, "read_results", lambda: {"36": {"seconds": 9}, "14": {"seconds": 8}})
    alone = [row.number for row in ROWS if row.by_the_clock]
    num_alone = len(alone)
    found = [(row.number, result["number"]) for row, result in run.run_rows(ROWS)]
    assert sorted(found) == [(row.number, row.number) for row in ROWS]
    assert begun[:num_alone] == [number for number, _ in found[:num_alone]] == alone
    assert set(begun[num_alone : num_alone + 2]) == {36, 14}, "the longest"
