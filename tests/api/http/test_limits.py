"""AdmissionControl, health and the numbers of a request, on a clock that the test moves."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from tests.api.support import fake_engine, ready_state
from thirdeye.server.api.admission.admission_control import FEWEST_WAITING, AdmissionControl
from thirdeye.server.api.state.server_state import STEP_OVERDUE_SECONDS, ServerState
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import FinishReason, Timings
from thirdeye.server.errors import MAX_RETRY_AFTER, ServerOverloaded, ServiceUnavailable
from thirdeye.server.text.events import TextEvent


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_permit_is_released_exactly_once() -> None:
    admission = AdmissionControl(max_num_seqs=2)
    permit = admission.admit(4)
    assert admission.in_flight == 4
    permit.release()
    permit.release()
    assert admission.in_flight == 0


def test_before_anything_is_measured_a_few_may_wait() -> None:
    admission = AdmissionControl(max_num_seqs=2)
    for _ in range(2 + FEWEST_WAITING):
        admission.admit(1)
    with pytest.raises(ServerOverloaded):
        admission.admit(1)


def test_without_a_time_the_queue_holds_twice_what_can_run() -> None:
    admission = AdmissionControl(max_num_seqs=2, max_wait=0)
    permits = [admission.admit(1) for _ in range(6)]
    with pytest.raises(ServerOverloaded) as refused:
        admission.admit(1)
    assert "4 requests are waiting" in refused.value.message
    assert admission.num_rejected == 1
    permits[0].release()
    admission.admit(1)


def test_a_request_larger_than_the_queue_gets_in_alone() -> None:
    """`n: 16` must be possible on a small server, but not beside others."""
    admission = AdmissionControl(max_num_seqs=1)
    permit = admission.admit(16)
    with pytest.raises(ServerOverloaded):
        admission.admit(1)
    permit.release()
    small = admission.admit(1)
    with pytest.raises(ServerOverloaded):
        admission.admit(16)
    small.release()


def test_retry_after_is_the_queue_by_the_measured_rate() -> None:
    """Ten answers at once took 20 s each: a place comes free every 2 s; 4 queued need 8 s."""
    clock = Clock()
    admission = AdmissionControl(max_num_seqs=10, clock=clock, max_wait=0)
    permits = [admission.admit(1) for _ in range(10)]
    clock.now += 20
    for permit in permits:
        permit.release()
    for _ in range(14):
        admission.admit(1)
    assert admission.retry_after() == 8


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 10**4))))
def test_retry_after_is_always_a_sane_number(finished: list[tuple[int, float]]) -> None:
    """Clients give up above 120 s, and 0 would be a storm."""
    clock = Clock()
    admission = AdmissionControl(max_num_seqs=3, clock=clock)
    for size, seconds in finished:
        permit = admission.admit(size)
        clock.now += seconds
        permit.release()
    admission.admit(9)
    assert 1 <= admission.retry_after() <= MAX_RETRY_AFTER


def test_health_tells_a_stuck_engine_from_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the engine's own account of who waits since when: the first look may come late."""
    engine = fake_engine()
    state = ready_state(engine)
    assert state.health() is None
    monkeypatch.setattr(engine, "stalled_seconds", lambda: STEP_OVERDUE_SECONDS + 1)
    assert "stopped stepping" in (state.health() or "")


def test_each_phase_answers_for_itself() -> None:
    state = ServerState()
    for act, code in ((lambda: None, "model_loading"), (lambda: state.fail("x"), "engine_failed")):
        act()
        with pytest.raises(ServiceUnavailable) as refused:
            state.serving()
        assert refused.value.code == code
    assert state.health() == "x"


def end(generated: int, timings: Timings | None = None, cached: int = 0) -> TextEvent:
    return TextEvent(
        "",
        num_generated_tokens=generated,
        num_cached_tokens=cached,
        finish_reason=FinishReason.STOP,
        timings=timings,
    )


def test_usage_counts_prompts_once_and_choices_all() -> None:
    """Cached tokens are those the first sample found: its siblings find what it computed."""
    tally = Tally([10, 20], n=2)
    for index, cached in enumerate((4, 10, 0, 16)):
        tally.add(index, end(5, cached=cached))
    usage = to_builtins(tally.usage())
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (30, 20)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4, "audio_tokens": 0}
    assert tally.is_finished


def test_timings_are_those_of_the_slowest_choice() -> None:
    tally = Tally([10], n=2)
    tally.add(0, end(3, Timings(1.0, 2.0, 4.0, 7.0, 3), cached=6))
    tally.add(1, end(9, Timings(1.0, 3.0, 16.0, 20.0, 9, 2, 5.0, 3.456, 8)))
    assert to_builtins(tally.timings()) == {
        "queue_ms": 1.0,
        "cache_n": 0,
        "prompt_n": 10,
        "prompt_ms": 3.0,
        "prompt_per_second": 3333.33,
        "predicted_n": 9,
        "predicted_ms": 16.0,
        "predicted_per_second": 562.5,
        "ttft_ms": 4.0,
        "itl_mean_ms": 2.0,
        "itl_max_ms": 5.0,
        "total_ms": 20.0,
        "steps": 9,
        "preemptions": 2,
        "batch_mean": 3.46,
        "batch_max": 8,
    }


def test_without_the_engines_timings_our_own_clock_tells() -> None:
    """A stop string ends the answer before the engine could say how long it took."""
    clock = Clock()
    tally = Tally([10], 1, clock=clock)
    clock.now += 1
    tally.add(0, TextEvent("a", num_generated_tokens=1))
    clock.now += 2
    tally.add(0, end(4))
    assert tally.engine_timings == Timings(0.0, 1000.0, 2000.0, 3000.0, 4)
