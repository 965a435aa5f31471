"""`QueueForecast` against a count of what places really do, drawn from the same durations."""

import random

import pytest

from thirdeye.server.api.admission.queue_forecast import QueueForecast


def ends(durations: list[float], ages: list[float], within: float, rng: random.Random) -> int:
    """One draw: each place's answer, given its age, then one after the other behind it."""
    total = 0
    for age in ages:
        left = rng.choice([d for d in durations if d > age]) - age
        while left <= within:
            total += 1
            left += rng.choice(durations)
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("within", [0.5, 2.0, 8.0])
def test_the_room_is_there_99_times_in_a_hundred(seed: int, within: float) -> None:
    rng = random.Random(seed)
    durations = [rng.expovariate(1.0) + 0.2 for _ in range(200)]
    ages = [rng.uniform(0, 1.0) for _ in range(16)]
    room = QueueForecast(durations).room([(1, age) for age in ages], within)
    draws = sorted(ends(durations, ages, within, rng) for _ in range(400))
    assert room <= draws[12]  # of 400: the 3 % quantile, as draws err too
    assert room >= 0.4 * draws[200] - 5


def test_answers_that_are_all_alike_end_when_they_do() -> None:
    forecast = QueueForecast([10.0] * 500)
    together = [(1, 4.0)] * 8
    assert forecast.room(together, 5.9) == 0
    assert 7 <= forecast.room(together, 6.1) <= 8
    assert 7 <= forecast.room(together, 15.9) <= 8
    assert forecast.room([(1, 9.5)] + [(1, 0.0)] * 7, 1.0) == pytest.approx(1, abs=0.1)


def test_an_answer_longer_than_all_promises_nothing() -> None:
    assert QueueForecast([1.0, 2.0]).room([(1, 3.0)], 100) == 0
    assert QueueForecast([]).room([(1, 3.0)], 100) == 0


def test_answers_that_take_no_time_leave_room_for_all() -> None:
    assert QueueForecast([0.0, 0.0]).room([(1, 0.0)], 1) == float("inf")
