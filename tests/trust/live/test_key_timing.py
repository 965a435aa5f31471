"""A wrong key takes as long whichever of its bytes is wrong, and whether it is nearly right."""

import random
import statistics
import time
from collections.abc import Callable

import pytest
from starlette.datastructures import Headers

from thirdeye.server.api.http.auth import ApiKeys
from thirdeye.server.errors import Unauthorized

KEY = "sk-0123456789abcdefghijklmnopqrstuvwxyz"
SAMPLES = 20_000


def welch_t(first: list[float], second: list[float]) -> float:
    """Without the slowest tenth of each: what else the machine did."""
    a, b = (sorted(times)[: len(times) * 9 // 10] for times in (first, second))
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / spread**0.5


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_the_time_of_a_refusal_tells_nothing(
    record_property: Callable[[str, object], None],
) -> None:
    keys = ApiKeys([KEY, *(f"other-{i}-{KEY}" for i in range(9))])
    sent = {
        name: Headers({"authorization": f"Bearer {wrong}"})
        for name, wrong in (("first", "x" + KEY[1:]), ("last", KEY[:-1] + "x"))
    }
    times: dict[str, list[float]] = {name: [] for name in sent}
    order = [name for name in sent for _ in range(SAMPLES)]
    random.Random(1).shuffle(order)
    for name in order:
        began = time.perf_counter_ns()
        with pytest.raises(Unauthorized):
            keys.caller(sent[name])
        times[name].append(time.perf_counter_ns() - began)
    t = welch_t(times["first"], times["last"])
    record_property("welch_t", round(t, 2))
    assert abs(t) < 4.5
