"""The table of tests that older libraries cannot run: each row is about tests that there are."""

from pathlib import Path

import pytest

from tests.versions import TOO_OLD, TooOld

ROOT = Path(__file__).parents[1]


def test_each_row_fits_some_test(request: pytest.FixtureRequest) -> None:
    """As pytest collects these files, which it has done where the whole suite runs."""
    node_ids = [
        item.nodeid
        for path in sorted({row.path for row in TOO_OLD})
        for item in pytest.Module.from_parent(request.session, path=ROOT / path).collect()
    ]
    for row in TOO_OLD:
        assert any(map(row.fits, node_ids)), f"no test fits {row.name} in {row.path}"


def test_only_older_versions_skip() -> None:
    def row(package: str, needs: str) -> TooOld:
        return TooOld("tests/test_a.py", "test_b", package, needs, "")

    assert row("pytest", "1000").is_installed()
    assert not row("pytest", "1").is_installed()
    assert not row("not-installed", "1").is_installed()


def test_a_name_fits_as_a_whole() -> None:
    row = TooOld("tests/test_a.py", r"test_b\[1.*\]", "pytest", "1", "")
    assert row.fits("tests/test_a.py::test_b[1-2]")
    assert not row.fits("tests/test_a.py::test_b[2]")
    assert not row.fits("tests/other.py::test_b[1-2]")
