"""Whose work is next: on a clock that the test moves, and with real threads."""

import gc
import heapq
import threading
import weakref
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.fair_executor import FairExecutor, FairTurns

Arrival = tuple[float, str, float]  # when, whose, and how long it takes


def simulated(arrivals: list[Arrival], num_threads: int) -> Iterator[tuple[str, float, float]]:
    """Of each work, as it begins: whose it is, how long it waited, and when it begins."""
    turns: FairTurns[tuple[float, float]] = FairTurns(max(num_threads - 1, 1))
    order = count()
    events: list[tuple[float, int, str, float, bool]] = []
    for at, tenant, seconds in arrivals:
        heapq.heappush(events, (at, next(order), tenant, seconds, True))
    num_busy = 0
    while events:
        now, _, tenant, seconds, has_come = heapq.heappop(events)
        if has_come:
            turns.push(tenant, (now, seconds))
        else:
            turns.done(tenant, seconds)
            num_busy -= 1
        while num_busy < num_threads and (found := turns.pop()) is not None:
            name, (came, takes) = found
            num_busy += 1
            yield name, now - came, now
            heapq.heappush(events, (now + takes, next(order), name, takes, False))


def waits(arrivals: list[Arrival], num_threads: int, tenant: str) -> list[float]:
    return [waited for name, waited, _ in simulated(arrivals, num_threads) if name == tenant]


HOSTILE = [(0.0, "hostile", 2.0) for _ in range(50)]  # seconds each: a hundred in all


def test_an_honest_grammar_waits_for_no_hostile_one() -> None:
    """Fifty of two seconds each are there before; in the order of arrival it were 33 s."""
    honest = [(0.1, "honest", 0.01)]
    assert waits(HOSTILE + honest, 3, "honest") == [0.0]


def test_with_one_thread_it_waits_for_the_one_that_runs() -> None:
    honest = [(0.5, "honest", 0.01) for _ in range(20)]
    found = waits(HOSTILE + honest, 1, "honest")
    assert found[0] == pytest.approx(1.5)
    assert found[-1] == pytest.approx(1.5 + 19 * 0.01), "all before the second hostile one"


def test_many_hostile_tenants_take_turns_with_it() -> None:
    """Of ten with fifty each it waits for what runs, and for nobody's second."""
    many = [(0.0, f"hostile {n}", 2.0) for n in range(10) for _ in range(50)]
    (waited,) = waits([*many, (0.1, "honest", 0.01)], 3, "honest")
    assert waited <= 10 * 2.0 / 3 + 2.0


def test_nobody_gains_by_idling() -> None:
    """Who comes back is level with the others, and does not take all that he has not had."""
    busy = [(0.0, "busy", 1.0) for _ in range(200)]
    late = [(100.0, "late", 1.0) for _ in range(100)]
    begun = [(name, now) for name, _, now in simulated(busy + late, 1) if now >= 101]
    first = [name for name, _ in begun[:20]]
    assert first.count("late") == first.count("busy") == 10


times = st.floats(0, 20, allow_nan=False)
works = st.lists(st.tuples(times, st.sampled_from("abc"), st.floats(0.01, 3)), max_size=60)


@given(works, st.integers(1, 4))
def test_all_is_done_and_each_tenants_own_in_order(arrivals: list[Arrival], threads: int) -> None:
    done = list(simulated(arrivals, threads))
    assert len(done) == len(arrivals)
    for tenant in "abc":
        came = [now - waited for name, waited, now in done if name == tenant]
        assert came == pytest.approx(sorted(came))


class HeldBack:
    """Work that ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(30)
        return "done"


def test_no_tenant_takes_the_last_thread() -> None:
    executor, held = FairExecutor(2, "test"), [HeldBack() for _ in range(3)]
    hostile = [executor.submit("hostile", work) for work in held]
    assert held[0].begun.wait(30)
    assert executor.submit("honest", lambda: "at once").result(30) == "at once"
    assert not held[1].begun.is_set()
    for work in held:
        work.may_end.set()
    assert [future.result(30) for future in hostile] == ["done"] * 3


def test_what_fails_is_its_callers_alone() -> None:
    executor = FairExecutor(1, "test")
    failed = executor.submit("a", lambda: 1 // 0)
    assert executor.submit("a", lambda: 2).result(30) == 2
    assert isinstance(failed.exception(30), ZeroDivisionError)


def test_what_is_cancelled_is_not_kept_until_its_turn() -> None:
    """Its text may be megabytes, and others go on for seconds."""
    executor, held, text = FairExecutor(1, "test"), HeldBack(), HeldBack()
    first = executor.submit("a", held)
    assert held.begun.wait(30)
    second, gone = executor.submit("a", text), weakref.ref(text)
    del text
    assert second.cancel()
    del second
    gc.collect()
    assert gone() is None
    held.may_end.set()
    assert first.result(30) == "done"


def test_what_was_made_is_not_kept() -> None:
    """It ends with its future, while no other work comes and nobody looks for garbage."""
    executor, after = FairExecutor(1, "test"), HeldBack()
    future = executor.submit("a", HeldBack)
    made = weakref.ref(future.result(30))
    del future
    later = executor.submit("a", after)
    assert after.begun.wait(30)
    assert made() is None
    after.may_end.set()
    assert later.result(30) == "done"
