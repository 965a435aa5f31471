"""Arrival processes: their order, their rate and their shape, against numpy where it knows them."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thirdeye.clients.loadtest.workload.arrivals import CONSTANT, Arrivals

rates = st.floats(0.01, 1000)
processes = st.builds(
    Arrivals,
    rate=rates,
    burstiness=st.sampled_from([0.1, 0.5, 1.0, 4.0, CONSTANT]),
    ramp_to=st.none() | rates,
)


@settings(deadline=None)
@given(process=processes, num_requests=st.integers(1, 200), seed=st.integers())
def test_arrivals_begin_at_once_and_in_order(
    process: Arrivals, num_requests: int, seed: int
) -> None:
    """As many as asked for, the same for the same seed, none before the one before it."""
    times = list(process.times(num_requests, seed))
    assert len(times) == num_requests
    assert times[0] == 0
    assert all(math.isfinite(time) and later >= time for time, later in pairwise(times))
    assert times == list(process.times(num_requests, seed))


@settings(deadline=None)
@given(rate=rates, num_requests=st.integers(1, 100))
def test_a_constant_rate_is_constant(rate: float, num_requests: int) -> None:
    times = list(Arrivals(rate, CONSTANT).times(num_requests, seed=0))
    assert times == pytest.approx([i / rate for i in range(num_requests)])


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_mean_and_the_spread_of_their_gamma(burstiness: float) -> None:
    """Mean 1 / rate; the coefficient of variation is 1 / sqrt(burstiness), so 1 for Poisson."""
    gaps = np.diff(list(Arrivals(5.0, burstiness).times(40_000, seed=3)))
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_poisson_gaps_are_exponential() -> None:
    """The largest distance between the two distribution functions (Kolmogorov-Smirnov)."""
    num_gaps = 20_000
    gaps = np.sort(np.diff(list(Arrivals(2.0).times(num_gaps + 1, seed=1))))
    expected = 1 - np.exp(-2.0 * gaps)
    distance = np.abs(expected - np.arange(num_gaps) / num_gaps).max()
    assert distance < 1.63 / math.sqrt(num_gaps), "the 1 % point of the KS statistic"


@settings(deadline=None)
@given(rate=rates, ramp_to=rates, num_requests=st.integers(2, 300))
def test_a_ramp_is_linear(rate: float, ramp_to: float, num_requests: int) -> None:
    """Twin: the integral of the rate up to the i-th arrival is i."""
    times = np.array(list(Arrivals(rate, CONSTANT, ramp_to).times(num_requests, seed=0)))
    seconds = num_requests / ((rate + ramp_to) / 2)
    due = rate * times + (ramp_to - rate) / seconds * times**2 / 2
    assert due == pytest.approx(np.arange(num_requests), abs=1e-5 * num_requests)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"burstiness": 0.0}, {"ramp_to": -1.0}])
def test_rates_are_positive(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"'{name}' must be greater than 0"):
        Arrivals(**{"rate": 1.0, **options})
