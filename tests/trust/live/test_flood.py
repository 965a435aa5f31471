"""Ten times what can be served: who is let in is answered in time, the rest hear at once, and no
less is served than two cores leave beside such a flood.

The second flood is a harder one: a tiny model has several hundred to refuse in each second.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.support import EOS, eventually, fake_engine, live, ready_state
from tests.tiny import tiny_llama
from tests.trust.live.flood import BODY, Flood, Load, generate
from thirdeye.server.api.http.api_config import ApiConfig


def test_an_answer_counts_by_its_part_in_the_time() -> None:
    """Of thirty seconds the last twenty: 10 s whole, 2 of 10 s, and nothing of who ended before."""
    times = [(11, 1, 11), (0, 2, 12), (0, 1, 9), (25, 1, 11)]
    sent = [
        {"due": due, "first_token": first, "seconds": end, "is_done": True}
        for due, first, end in times
    ]
    assert Load(sent, 30.0, 0.0, 0.0).rate == pytest.approx((1 + 0.2 + 0 + 0.4) / 20)


@pytest.mark.parametrize("how", [(), ("--fresh",)])
def test_the_generator_takes_whole_answers_and_refusals(how: tuple[str, ...]) -> None:
    """On connections that it keeps, or on one for each: a hundred in a row."""
    engine = fake_engine([*b"hello", EOS])
    state = ready_state(engine)
    config = ApiConfig(max_queue_time=0)  # else a forecast decides, by how long the served took
    with live(state, config) as url:
        port, body = int(url.rpartition(":")[2]), {**BODY, "model": "tiny"}
        served = generate(port, 0.2, "--callers", "2", *how, body=body)
        eventually(lambda: state.admission.in_flight == 0)
        permit = state.admission.admit(1000)
        refused = generate(port, 0.2, "--rate", "200", *how, body=body)
        permit.release()
    assert served.sent
    assert all(one["is_done"] and one["first_token"] for one in served.sent)
    assert len(refused.refused) == len(refused.sent) == 40
    assert all(one["retry_after"] >= 1 and not one["is_done"] for one in refused.sent)


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
    assert figures["goodput_of_what_is_left"] >= 0.95, figures
    assert figures["refused_p99_ms"] <= 50, figures


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_flood_on_a_tiny_model(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tiny_llama(tmp_path, context=1024)
    args = [str(tmp_path), "--max-num-seqs", "4", "--max-queue-time", "4"]
    figures = Flood(args, 8, saturation_seconds=10, flood_seconds=30).run()
    for name, value in figures.items():
        record_property(f"tiny_{name}", value)
    assert figures["first_token_p99_s"] <= 4.5, figures
    assert figures["after_2_s_first_token_s"] <= 2, figures
    assert figures["refused_p99_ms"] <= 50, figures
    assert figures["goodput_of_what_is_left"] >= 0.95, figures
