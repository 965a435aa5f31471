"""The picker that lives: what it thinks of the replicas, told late, and whom it picks by that."""

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.server.cluster.picking.picker import Picker, Report
from thirdeye.server.cluster.picking.replica_ring import BOUND

NAMES = ["a", "b", "c", "d"]


def picker_of(number: int, idle_below: int = 0) -> Picker:
    picker = Picker(idle_below)
    picker.update({name: Report() for name in NAMES[:number]})
    return picker


def test_without_a_replica_there_is_none() -> None:
    assert Picker().pick(b"key", 1.0) is None
    assert Picker().pick(None, 1.0) is None


def test_what_was_sent_counts_until_a_later_report_tells_of_it() -> None:
    picker = picker_of(1)
    for now in (10.0, 11.0, 12.0):
        picker.pick(b"key", now)
    assert picker.loads() == {"a": 3}
    picker.update({"a": Report(under_way=1, time=11.0)})  # two of them have arrived, one has ended
    assert picker.loads() == {"a": 2}
    picker.update({"a": Report(under_way=9, time=10.5)})  # an older one says nothing new
    assert picker.loads() == {"a": 2}


def test_who_comes_is_picked_and_who_goes_is_not() -> None:
    picker = picker_of(2)
    picker.pick(b"key", 1.0)
    picker.update({"b": Report(), "c": Report()})
    assert set(picker.loads()) == {"b", "c"}
    picked = {picker.pick(f"key {i}".encode(), 1.0) for i in range(50)}
    assert picked == {"b", "c"}
    picker.update({})
    assert picker.pick(b"key", 1.0) is None


def test_a_key_goes_where_it_went_and_others_are_spread() -> None:
    """Where nobody has anything to do: what was sent before has ended."""
    picker, now = picker_of(4), 0.0
    keys = [f"key {i}".encode() for i in range(200)]
    went: list[list[str | None]] = [[], []]
    for turn in went:
        for key in keys:
            now += 1
            turn.append(picker.pick(key, now))
            picker.update({name: Report(time=now) for name in NAMES})
    assert went[0] == went[1]
    assert set(went[0]) == set(NAMES)
    assert max(Counter(went[0]).values()) < 2 * len(keys) / 4


def test_a_request_without_a_key_goes_to_the_least_busy_in_turn() -> None:
    picker = picker_of(3)
    assert {picker.pick(None, 1.0) for _ in range(3)} == {"a", "b", "c"}
    picker.update({"b": Report(under_way=5, time=2.0), "c": Report(under_way=1, time=2.0)})
    assert [picker.pick(None, 3.0) for _ in range(4)] == ["c"] * 4


def test_a_few_requests_of_one_prefix_stay_together() -> None:
    """Of three requests two may not be a quarter more than the mean of two replicas: sharing their
    prefix is worth more, as long as the batch has places."""
    strict, gentle = picker_of(2), picker_of(2, idle_below=8)
    assert len({strict.pick(b"key", 1.0) for _ in range(8)}) == 2
    assert len({gentle.pick(b"key", 1.0) for _ in range(8)}) == 1
    assert len({gentle.pick(b"key", 1.0) for _ in range(16)}) == 2


@draws(30, 1000)
@given(
    st.integers(1, 4),
    st.integers(0, 6),
    st.lists(
        st.one_of(st.none(), st.integers(0, 2), st.just("end"), st.just("report")), max_size=80
    ),
)
def test_no_replica_gets_more_than_its_bound_of_what_is_known(
    number: int, idle_below: int, events: list[int | str | None]
) -> None:
    """Replicas that run what they get, end the oldest, and report when they like."""
    picker, running = picker_of(number, idle_below), {n: deque[float]() for n in NAMES[:number]}
    now = 0.0
    for event in events:
        now += 1.0
        if event == "end":
            busiest = max(running, key=lambda name: len(running[name]))
            if running[busiest]:
                running[busiest].popleft()
        elif event == "report":
            picker.update({n: Report(len(r), now) for n, r in running.items()})
            assert picker.loads() == {n: len(r) for n, r in running.items()}
        else:
            before = picker.loads()
            picked = picker.pick(None if event is None else bytes([int(event)]), now)
            assert picked is not None
            running[picked].append(now)
            limit = BOUND * (sum(before.values()) + 1) / number
            if event is None:
                assert before[picked] == min(before.values())
            else:
                assert before[picked] < max(limit, idle_below)
        assert all(picker.loads()[n] >= len(r) for n, r in running.items())


@pytest.mark.parametrize("number", [2, 4])
def test_a_hot_prefix_does_not_make_a_replica_hot(number: int) -> None:
    picker = picker_of(number, idle_below=8)
    for sent in range(100 * number):
        picker.pick(b"hot", float(sent))
    assert max(picker.loads().values()) <= BOUND * 100 + 1
