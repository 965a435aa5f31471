"""How many examples a test draws: a few at each push, the full number in `make prove`.

A test that draws by `draws(push, full)` is in both: `-m prove` finds it as well, and there it draws
`full` of them, new ones each night. A property of hypothesis' that does not say draws 30, and
hypothesis' own 100 at night.
"""

from collections.abc import Callable, Iterable
from itertools import combinations, product
from typing import Any, TypeVar

import pytest
from hypothesis import is_hypothesis_test, settings

PUSH = "push"  # the profiles of hypothesis: tests/conftest.py loads one
NIGHT = "night"  # under `-m prove`
# Drawn alike at every push: what a push tells is of the change, and not of the day's luck.
settings.register_profile(PUSH, deadline=None, max_examples=30, derandomize=True)
settings.register_profile(NIGHT, deadline=None, max_examples=100)

Test = TypeVar("Test", bound=Callable[..., Any])


def is_night() -> bool:
    """Whether this run is `make prove`."""
    return settings.get_current_profile_name() == NIGHT


def count(push: int, full: int) -> int:
    """For loops that are no property of hypothesis': the test wants `also_at_night`."""
    return full if is_night() else push


def also_at_night(test: Test) -> Test:
    """A test of every push that `make prove` runs too, with more in it."""
    marked: Test = pytest.mark.prove(test) if is_night() else test
    return marked


def pairwise(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Rows for `parametrize`: all combinations at night; at a push so many that any two values of
    two axes meet. Most faults are of one value or of two; the test wants `also_at_night`."""
    rows = list(product(*axes))
    if is_night():
        return rows
    left = set().union(*map(_pairs, rows))
    chosen = []
    while left:
        best = max(rows, key=lambda row: len(left & _pairs(row)))  # the first of these
        chosen.append(best)
        left -= _pairs(best)
    return chosen


def _pairs(row: tuple[Any, ...]) -> set[tuple[Any, ...]]:
    return {(i, row[i], k, row[k]) for i, k in combinations(range(len(row)), 2)}


def mark_properties(items: list[pytest.Item]) -> None:
    """Every property is `make prove`'s as well."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.prove)


def draws(push: int, full: int, **others: Any) -> Callable[[Test], Test]:
    """hypothesis' settings of a test (`others` as well), without a deadline unless one is given.

    What is drawn alike at each push is drawn anew each night.
    """
    others.setdefault("deadline", None)
    drawn = settings(max_examples=count(push, full), **others)

    def decorate(test: Test) -> Test:
        return also_at_night(drawn(test))

    return decorate
