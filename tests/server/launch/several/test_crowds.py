"""Who gives way to whom: a flooded model to a quiet one, and nobody to himself."""

import pytest

from thirdeye.server.launch.several.crowds import LINGER, Crowd, Crowds


def tell(crowds: Crowds, now: float = 0.0, places: int = 64, **under_way: int) -> set[str]:
    crowds.tell({name: Crowd(number, places) for name, number in under_way.items()}, now)
    return set(crowds.behind)


@pytest.mark.parametrize(
    ("a", "b", "behind"),
    [
        (0, 0, set()),
        (90, 0, set()),  # nobody waits for it
        (1, 1, set()),
        (3, 1, set()),
        (4, 1, {"a"}),
        (1, 4, {"b"}),
        (64, 30, set()),  # both have a place for each
        (65, 30, {"a"}),  # it has more than it answers at once
        (65, 64, {"a"}),
        (80, 70, set()),  # both are flooded
        (300, 70, {"a"}),
    ],
)
def test_the_crowded_one_gives_way(a: int, b: int, behind: set[str]) -> None:
    assert tell(Crowds(), a=a, b=b) == behind


def test_never_do_two_give_way_to_each_other() -> None:
    for a in range(12):
        for b in range(12):
            crowds = Crowds()
            crowds.tell({"a": Crowd(a, places=1), "b": Crowd(b, places=8)}, 0.0)
            assert len(crowds.behind) < 2, (a, b)


def test_it_stays_behind_until_the_crowd_is_clearly_smaller() -> None:
    crowds = Crowds()
    for a, is_behind in ((3, False), (4, True), (3, True), (2, True), (1, False), (3, False)):
        assert tell(crowds, a=a, b=1) == ({"a"} if is_behind else set()), a


def test_alone_it_computes_as_everybody_soon() -> None:
    crowds = Crowds()
    assert tell(crowds, 10.0, a=9, b=1) == {"a"}
    assert tell(crowds, 10.0 + LINGER / 2, a=9, b=0) == {"a"}
    assert tell(crowds, 10.0 + LINGER, a=9, b=0) == set()
    assert tell(crowds, 20.0, a=9, b=1) == {"a"}
    assert tell(crowds, 20.0, a=0, b=1) == set()
    assert tell(crowds, 20.0, b=1) == set()  # it is put to sleep


def test_of_three_all_that_are_crowded_give_way_to_the_quiet_one() -> None:
    assert tell(Crowds(), a=40, b=30, c=2) == {"a", "b"}
    assert tell(Crowds(), a=40, b=8, c=2) == {"a", "b"}
    assert tell(Crowds(), a=40, b=7, c=2) == {"a"}
