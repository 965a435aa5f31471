"""The plan names tests that exist, and the page shows the plan."""

import ast
import threading
from functools import cache
from pathlib import Path

import pytest

from tests.trust import run
from tests.trust.page import PAGE, expected_seconds, read_results, replaced, scheduled
from tests.trust.row import ALONE, BESIDE, Row
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
    alone = [row for row in ROWS if set(row.parts) == {ALONE}][:2]
    others = [row for row in ROWS if not row.by_the_clock][:4]
    expected = {(row.number, ALONE): took for row, took in zip(alone, (5, 7), strict=True)}
    expected |= {(row.number, BESIDE): t for row, t in zip(others, (10, 2, 3, 4), strict=True)}
    assert scheduled([*alone, *others], expected) == (12, 10)


def test_what_a_part_took_is_expected_of_it_again() -> None:
    """First what its parts took, then what somebody expects, then what all of it took."""
    split = next(row for row in ROWS if len(row.parts) == 2).number
    took, hoped = {ALONE: 3, BESIDE: 4}, {ALONE: 5, BESIDE: 6}
    result = {"seconds": 9, "expected": hoped, "parts": took}
    for known, alone, beside in (
        (result, 3, 4),
        ({**result, "parts": None}, 5, 6),
        ({"seconds": 9}, 9, 9),
    ):
        seconds = expected_seconds({str(split): known})
        assert (seconds[split, ALONE], seconds[split, BESIDE]) == (alone, beside)


def test_parts_are_the_whole() -> None:
    for row in ROWS:
        assert row.by_the_clock or not row.beside
        assert set(row.beside) < set(row.full), row.number
        assert sorted(test for part in row.parts.values() for test in part) == sorted(row.full)


def test_a_row_in_two_parts_has_one_result() -> None:
    common = {"date": "2026-12-01", "machine": "m", "skipped": []}
    alone = {"holds": True, "seconds": 5, "passed": 1, "failed": [], "figures": {"a": 1}, **common}
    beside = {"holds": False, "seconds": 7, "passed": 2, "failed": ["t"], "figures": {}, **common}
    assert run.joined({ALONE: alone, BESIDE: beside}) == {
        "holds": False, "seconds": 12, "passed": 3, "failed": ["t"], "figures": {"a": 1}, **common,
        "parts": {ALONE: 5, BESIDE: 7},
    }  # fmt: skip


def test_results_are_of_rows() -> None:
    assert {int(number) for number in read_results()} <= {row.number for row in ROWS}


def test_what_has_limits_of_time_runs_alone_and_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others two at once: each of the first two waits for the other here."""
    pair, begun = threading.Barrier(2, timeout=60), []
    num_alone = sum(row.by_the_clock for row in ROWS)

    def run_part(row: Row, tests: tuple[str, ...]) -> run.Result:
        begun.append((row.number, tests))
        if num_alone < len(begun) <= num_alone + 2:
            pair.wait()
        return {"seconds": 1, "passed": len(tests)}

    monkeypatch.setattr(run, "run_part", run_part)
    longest = {"36": {"seconds": 9}, "14": {"seconds": 8}}
    monkeypatch.setattr(run, "read_results", lambda: longest)
    found = {row.number: result["passed"] for row, result in run.run_rows(ROWS)}
    assert found == {row.number: len(row.full) for row in ROWS}
    assert begun[:num_alone] == [(r.number, r.parts[ALONE]) for r in ROWS if r.by_the_clock]
    assert {number for number, _ in begun[num_alone : num_alone + 2]} == {36, 14}, "the longest"
    assert sorted(begun) == sorted((r.number, part) for r in ROWS for part in r.parts.values())


def test_how_long_it_will_take_is_said_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {"9": {"seconds": 100}, "5": {"seconds": 20}}
    monkeypatch.setattr(run, "read_results", lambda: results)
    monkeypatch.setattr(run, "run_rows", lambda rows: iter(()))
    monkeypatch.setattr("sys.argv", ["run", "5", "9"])
    assert run.main() == 0
    assert capsys.readouterr().out.startswith(
        "2 rows; expected: 120 s (2 min): 20 s one by one, then 100 s with 2 at once"
    )
