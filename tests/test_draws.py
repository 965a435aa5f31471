"""A push draws few examples and a night all of them; what shares a server is listed by its name."""

from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.draws import NIGHT, PUSH, also_at_night, draws, mark_properties, pairwise

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=[PUSH, NIGHT])
def profile(request: pytest.FixtureRequest) -> Iterator[str]:
    before = settings.get_current_profile_name()
    settings.load_profile(request.param)
    yield request.param
    settings.load_profile(before)


def is_proof(test: Any) -> bool:
    return any(mark.name == "prove" for mark in getattr(test, "pytestmark", []))


def test_what_is_drawn(profile: str) -> None:
    seen = []

    @draws(3, 11, database=None)
    @given(number=st.integers())
    def drawn(number: int) -> None:
        seen.append(number)

    drawn()
    assert len(seen) == (11 if profile == NIGHT else 3)
    assert is_proof(drawn) == (profile == NIGHT)


def test_what_a_property_draws_that_does_not_say(profile: str) -> None:
    seen = []

    @settings(database=None)
    @given(number=st.integers())
    def drawn(number: int) -> None:
        seen.append(number)

    drawn()
    assert len(seen) == (100 if profile == NIGHT else 30)


def test_every_property_is_a_night_s_too(request: pytest.FixtureRequest) -> None:
    @given(number=st.integers())
    def drawn(number: int) -> None: ...

    def single() -> None: ...

    items: list[pytest.Item] = [
        pytest.Function.from_parent(request.node.parent, name=test.__name__, callobj=test)
        for test in (drawn, single)
    ]
    mark_properties(items)
    assert [item.get_closest_marker("prove") is not None for item in items] == [True, False]


def test_a_loop_of_more_at_night(profile: str) -> None:
    @also_at_night
    def test() -> None: ...

    assert is_proof(test) == (profile == NIGHT)


def test_any_two_values_meet(profile: str) -> None:
    axes = ("abcd", [False, True], ["x", "y", "z"])
    rows = pairwise(*axes)
    assert len(rows) == len(set(rows)) == (24 if profile == NIGHT else 12)
    for i, k in combinations(range(3), 2):
        assert {(row[i], row[k]) for row in rows} == set(product(axes[i], axes[k]))


def test_files_that_share_run_on_one_worker() -> None:
    pytest.importorskip("xdist")
    from tests.one_worker import SHARERS, SharingScheduling

    scope = SharingScheduling._split_scope
    anyone: Any = SimpleNamespace()
    for row in SHARERS:
        for prefix in row:
            files = list(ROOT.glob(f"{prefix}*"))
            assert files, f"nothing begins with {prefix}"
            assert scope(anyone, f"{prefix}_x.py::test_it") == row[0]
    assert scope(anyone, "tests/text/test_stop.py::test_it") == "tests/text/test_stop.py"
