"""Looking for the saturation point of servers whose point is known."""

from hypothesis import given, settings
from hypothesis import strategies as st

from thirdeye.clients.loadtest.workload.sweep import (
    next_concurrency,
    next_rate,
    saturation_concurrency,
    saturation_rate,
)


@settings(deadline=None)
@given(knee=st.integers(1, 300), first=st.integers(1, 8), limit=st.integers(1, 512))
def test_the_knee_of_throughput_is_found(knee: int, first: int, limit: int) -> None:
    """Throughput grows with users up to the knee: found to within a doubling, and no further."""
    measured: dict[int, float] = {}
    while (users := next_concurrency(measured, first, limit)) is not None:
        assert users not in measured
        assert users <= limit
        measured[users] = float(min(users, knee))
    found = saturation_concurrency(measured)
    assert found is not None
    assert max(measured) <= max(4 * knee, 2 * first)
    if max(measured) >= knee:
        assert min(first, limit) <= found <= max(2 * knee, first)
        assert measured[found] >= 0.95 * max(measured.values())


@settings(deadline=None)
@given(most=st.floats(0.05, 400), first=st.floats(0.1, 100))
def test_the_highest_rate_kept_is_found(most: float, first: float) -> None:
    """To within 15 %, in few runs; None if it is far below where the search begins."""
    measured: dict[float, bool] = {}
    while (rate := next_rate(measured, first, limit=512)) is not None:
        measured[rate] = rate <= most
        assert len(measured) < 30
    found = saturation_rate(measured)
    if found is None:
        assert most < first / 32
    else:
        assert found <= most
        assert found * 1.15 >= most or found * 2 > 512


def test_a_lucky_run_above_a_missed_rate_does_not_count() -> None:
    assert saturation_rate({1.0: True, 2.0: False, 4.0: True}) == 1.0


def test_a_server_that_answers_nothing_has_no_saturation_point() -> None:
    assert saturation_concurrency({1: 0.0}) is None
    assert saturation_concurrency({}) is None
