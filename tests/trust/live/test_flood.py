"""Ten times what can be served: who is let in is answered in time, the rest hear at once, and no
less is served than without the others.

The second flood is a harder one. A tiny model answers a hundred times a second, so it has more
than a thousand to refuse in each, and their generator shares its cores: what that takes is no
longer there to serve, on any server. What is left must serve.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import tiny_llama
from tests.trust.live.flood import Flood, Load

CORES = 2  # of `make trust`: what the server and the generator have


def test_an_answer_counts_by_its_part_in_the_time() -> None:
    """Of thirty seconds the last twenty: 10 s whole, 2 of 10 s, and nothing of who ended before."""
    times = [(11, 1, 11), (0, 2, 12), (0, 1, 9), (25, 1, 11)]
    sent = [
        {"due": due, "first_token": first, "seconds": end, "is_done": True}
        for due, first, end in times
    ]
    assert Load(sent, 30.0, 0.0, 0.0).rate == pytest.approx((1 + 0.2 + 0 + 0.4) / 20)


@pytest.mark.prove
@pytest.mark.real
@pytest.mark.timeout(1800)
def test_a_flood(default_model: Path, record_property: Callable[[str, object], None]) -> None:
    """As `thirdeye serve` starts it: 64 places, ten seconds in the queue."""
    figures = Flood([str(default_model)], 64, saturation_seconds=30, flood_seconds=60).run()
    for name, value in figures.items():
        record_property(name, value)
    assert figures["first_token_p99_s"] <= 10.5, figures
    assert figures["after_2_s_first_token_s"] <= 2, figures
    assert figures["goodput_of_capacity"] >= 0.95, figures
    assert figures["refused_p99_ms"] <= 50, figures


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_flood_on_a_tiny_model(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tiny_llama(tmp_path, context=1024)
    args = [str(tmp_path), "--max-num-seqs", "4", "--max-queue-time", "4"]
    figures = Flood(args, 8, saturation_seconds=10, flood_seconds=30).run()
    refusals = 1e-6 * figures["refusal_us_of_server"] * figures["sent"] / 30
    figures["share_of_cores_that_refuses"] = round(refusals / CORES, 3)
    for name, value in figures.items():
        record_property(f"tiny_{name}", value)
    assert figures["first_token_p99_s"] <= 4.5, figures
    assert figures["after_2_s_first_token_s"] <= 2, figures
    assert figures["refused_p99_ms"] <= 50, figures
    lost = figures["share_of_cores_that_refuses"] + figures["generator_cpu_share"] / CORES
    assert figures["goodput_of_capacity"] >= 0.95 - lost, figures
