"""Numbers against their numpy twins, and the counts against a slow one of our own."""

import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.clients.loadtest.driver.record import Record
from thirdeye.clients.loadtest.results import show, stats
from thirdeye.clients.loadtest.results.stats import (
    Goals,
    Latency,
    concurrency,
    percentile,
    summarize,
    timeline,
)
from thirdeye.clients.loadtest.workload import arrivals

values = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=60)


@draws(10, 40)
@given(values=values, share=st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    twin = float(np.quantile(values, share))
    assert percentile(sorted(values), share) == pytest.approx(twin, rel=1e-9, abs=1e-9)


@draws(10, 40)
@given(values)
def test_a_distribution_is_numpys(seconds: list[float]) -> None:
    latency = Latency.of(seconds)
    assert latency is not None
    milliseconds = 1000 * np.array(seconds)
    named = [latency.mean, latency.p50, latency.p90, latency.p99, latency.max]
    twin = [milliseconds.mean(), *np.percentile(milliseconds, [50, 90, 99]), milliseconds.max()]
    assert named == pytest.approx(twin, rel=1e-6, abs=1e-3)
    assert latency.percentiles == sorted(latency.percentiles)


def test_of_nothing_there_is_no_distribution() -> None:
    assert Latency.of([]) is None
    assert Latency.of([None, None]) is None
    empty = summarize([])
    assert (empty["requests"], empty["output_tokens_per_second"], empty["ttft_ms"]) == (0, 0, None)


def seconds(most: int) -> st.SearchStrategy[float]:
    """Whole milliseconds, as results tell them: nothing takes 1e-267 s."""
    return st.integers(0, most * 1000).map(lambda milliseconds: milliseconds / 1000)


@st.composite
def records(draw: st.DrawFn) -> Record:
    intended = draw(seconds(100))
    ready, sent, first, end = np.cumsum([draw(seconds(10)) for _ in range(4)]) + intended
    return Record(
        intended_at=intended,
        ready_at=float(ready),
        sent_at=float(sent),
        ended_at=float(end),
        text_times=[float(first), float(end)],
        num_events=3,
        prompt_tokens=draw(st.none() | st.integers(0, 100)),
        output_tokens=draw(st.none() | st.integers(0, 100)),
        error=draw(st.none() | st.sampled_from(["429", "timeout"])),
        retries=draw(st.integers(0, 2)),
    )


@draws(10, 40)
@given(st.lists(records(), max_size=20))
def test_counts_and_rates(made: list[Record]) -> None:
    """Whole answers alone give tokens and latencies; whole and failed are all."""
    numbers = summarize(made, cpu_seconds=1.0)
    whole = [record for record in made if record.error is None]
    assert numbers["whole"] + sum(numbers["errors"].values()) == numbers["requests"] == len(made)
    assert numbers["output_tokens"] == sum(record.output_tokens or 0 for record in whole)
    assert numbers["retries"] == sum(record.retries for record in made)
    if numbers["seconds"]:
        rate = numbers["output_tokens"] / numbers["seconds"]
        assert numbers["output_tokens_per_second"] == pytest.approx(rate, rel=0.01, abs=0.01)
    if whole:
        assert numbers["ttft_ms"]["max"] >= numbers["ttft_from_send_ms"]["max"] - 0.001
    if made:
        assert numbers["client"]["cpu_us_per_event"] == pytest.approx(
            1e6 / (3 * len(made)), abs=0.1
        )


@draws(10, 40)
@given(st.lists(records(), min_size=1, max_size=20))
def test_concurrency_is_what_a_count_at_each_moment_says(made: list[Record]) -> None:
    for when, count in concurrency(made):
        assert count == sum(r.sent_at <= when < r.ended_at for r in made)


@draws(10, 40)
@given(st.lists(records(), min_size=1, max_size=20))
def test_the_timeline_misses_no_peak_and_no_text(made: list[Record]) -> None:
    drawn = timeline(made)
    assert max(drawn["running"]) == max((n for _, n in concurrency(made)), default=0)
    num_texts = sum(drawn["events_per_second"]) * drawn["slice_seconds"]
    assert num_texts == pytest.approx(2 * len(made), rel=0.05, abs=0.5)


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "intended_at": 0.0,
        "ready_at": 0.0,
        "sent_at": 0.0,
        "ended_at": 1.0,
        "text_times": [0.2, 0.3, 0.8],
        "output_tokens": 5,
    }
    return Record(**{**fields, **changes})


def test_the_formulas() -> None:
    one = record(intended_at=-1.0)
    assert (one.ttft, one.ttft_from_send) == (pytest.approx(1.2), pytest.approx(0.2))
    assert (one.e2e, one.e2e_from_send) == (2.0, 1.0)
    assert one.gaps == pytest.approx([0.1, 0.5])
    assert one.tpot == pytest.approx((1.0 - 0.2) / 4)
    assert record(output_tokens=1).tpot is None
    assert record(text_times=[]).ttft is None


@pytest.mark.parametrize(
    ("limit", "is_met"),
    [
        ("ttft:200", True),
        ("ttft:199", False),
        ("itl:500", True),
        ("itl:499", False),
        ("tpot:200", True),
        ("tpot:199", False),
        ("e2e:1000", True),
        ("e2e:999", False),
    ],
)
def test_a_goal_is_a_limit(limit: str, is_met: bool) -> None:
    assert Goals.read([limit]).are_met(record()) is is_met
    assert not Goals.read([limit]).are_met(record(error="429"))


@pytest.mark.parametrize("text", ["ttft", "speed:3", "ttft:fast"])
def test_a_goal_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"goal is like|float"):
        Goals.read([text])


def test_an_answer_that_begins_with_its_last_token_is_no_gap() -> None:
    assert summarize([record(text_times=[0.5])])["itl_ms"] is None


@pytest.mark.parametrize("module", [stats, arrivals, show])
def test_the_examples_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert (result.attempted > 0, result.failed) == (True, 0)
