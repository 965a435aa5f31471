"""Crashes, delays and refusals in allocator, pipe, disk, clock and compiler: whoever asks is told.

A hundred days in every push, 10,000 in `make trust`. After each: every client has exactly one
proper end, what was answered is right, no block, permit, task, process or socket is left.
"""

from collections import Counter
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.trust.faults.schedules import DAYS, BadDay, EngineLife, Visitor
from tests.trust.faults.trial import live_through
from thirdeye.server.api.admission.admission_control import Permit
from thirdeye.server.engine.process.engine_client import EngineClient
from thirdeye.server.engine.process.process_engine import Child

# None comes at 0: that is when an engine that loads in no time gets ready, and of two things at the
# same moment the first is whichever takes fewer turns of the event loop.
ASKS = tuple(Visitor(at=i / 4, num_tokens=12) for i in range(1, 5))


def days(
    count: int, *, derandomize: bool, phases: tuple[Phase, ...] = tuple(Phase)
) -> Counter[str]:
    """How all visits of so many days ended."""
    ends: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(DAYS)
    def live(day: BadDay) -> None:
        ends.update(live_through(day))

    live()
    return ends


def test_a_hundred_bad_days() -> None:
    """Some are answered, some are told that it failed, some are refused, some leave."""
    ends = days(100, derandomize=True)
    assert {"answered", "error", "left", "dropped"} <= ends.keys()


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_ten_thousand_bad_days(record_property: Callable[[str, object], None]) -> None:
    ends = days(10_000, derandomize=False)
    record_property("days", 10_000)
    for end, count in ends.most_common():
        record_property(end, count)


async def _as_if_all_were_well(*_: object) -> int:
    return 0


PLANTS = {
    "a death that is not told": (EngineClient, "fail_all", lambda self, why: self.refuse(why)),
    "a process that is not reaped": (Child, "reap", _as_if_all_were_well),
    "a step that hangs for ever": (EngineClient, "stalled_seconds", lambda self: 0.0),
    "a permit that is kept": (Permit, "release", lambda self: None),
    "a close that waits": (EngineClient, "abort_all", lambda self: self.refuse("closed")),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(plant: str) -> None:
    with (
        mock.patch.object(*PLANTS[plant]),
        pytest.raises(BaseException),  # noqa: B017, PT011 (each shows in its own way)
    ):
        days(100, derandomize=True, phases=(Phase.generate,))


def test_a_day_is_the_same_again() -> None:
    """No thread and no clock but the trial's own decides how it ends."""
    assert days(25, derandomize=True) == days(25, derandomize=True)


def test_a_quiet_day() -> None:
    """Without this, a trial in which nobody is ever answered would pass."""
    assert live_through(BadDay(ASKS, (EngineLife(load_seconds=0.0),))) == {"answered": 4}


def test_a_server_that_ends_while_it_closes_a_new_engine() -> None:
    """It was loaded while the server was closed, and its close was cut: a process was left."""
    visitors = (
        Visitor(at=0.0, num_tokens=1, is_stream=False),
        Visitor(at=7.25, num_tokens=1, is_stream=False, leaves_after=0.0, seconds_a_read=0.3),
    )
    crash, lean = (
        EngineLife(load_seconds=0.0, crash_at=6.5),
        EngineLife(load_seconds=0.0, load_fault="spawn"),
    )
    assert live_through(BadDay(visitors, (crash, lean)))
