"""The plan names tests that exist, and the page shows the plan."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.trust.page import PAGE, read_results, replaced
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


def test_results_are_of_rows() -> None:
    assert {int(number) for number in read_results()} <= {row.number for row in ROWS}
