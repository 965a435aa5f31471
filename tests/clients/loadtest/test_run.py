"""The whole load tester against a server that keeps a schedule, in virtual time.

Tolerance: the stamps are read from the clock that the schedule is kept by, so they are equal but
for the rounding of a sum.
"""

from typing import Any

import pytest

from tests.clients.loadtest.server import Answer, Server
from tests.clients.loadtest.virtual import now
from tests.clients.loadtest.virtual import run as in_virtual_time
from thirdeye.clients.loadtest.load_settings import LoadSettings, OfferedLoad
from thirdeye.clients.loadtest.results.show import saturation_line
from thirdeye.clients.loadtest.results.stats import Goals
from thirdeye.clients.loadtest.run import run
from thirdeye.clients.loadtest.workload.arrivals import CONSTANT
from thirdeye.clients.loadtest.workload.prompts import Length, Mix


def measure(server: Server, **options: Any) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with server.listen():
            settings = LoadSettings(**{"model": "tiny", "warmup": 0, **options})
            return await run(server.target, settings, clock=now, cpu_clock=lambda: 0.0)

    return in_virtual_time(main())


def near(milliseconds: float) -> Any:
    return pytest.approx(milliseconds, abs=0.01)


@pytest.mark.parametrize("is_chat", [True, False])
def test_what_is_measured_is_what_was_scheduled(is_chat: bool) -> None:
    """TTFT, ITL, TPOT and E2E of one user; the role event and the usage event are no tokens."""
    server = Server(lambda body, index: Answer(ttft=0.5, gaps=(0.1, 0.3), tail=0.05))
    (point,) = measure(server, is_chat=is_chat, num_requests=4)["points"]
    assert (point["requests"], point["whole"], point["errors"]) == (4, 4, {})
    assert point["ttft_ms"]["p50"] == point["ttft_ms"]["max"] == near(500)
    assert (point["itl_ms"]["p50"], point["itl_ms"]["max"]) == (near(200), near(300))
    assert point["tpot_ms"]["p50"] == near((100 + 300 + 50) / 2)
    assert point["e2e_ms"]["p99"] == near(950)
    assert (point["prompt_tokens"], point["output_tokens"]) == (36, 12)
    assert point["seconds"] == pytest.approx(4 * 0.95)
    assert point["output_tokens_per_second"] == pytest.approx(12 / 3.8, abs=0.001)
    assert point["total_tokens_per_second"] == pytest.approx(48 / 3.8, abs=0.001)
    assert point["client"]["send_lag_ms"]["max"] == near(0)
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    assert {request.path for request in server.arrived} == {path}
    assert server.num_connections == 1, "connections are used again"


def test_tokens_are_counted_from_usage_never_from_events() -> None:
    """Three events of four tokens each are twelve tokens."""
    server = Server(lambda body, index: Answer(tokens_per_event=4))
    (point,) = measure(server, num_requests=1)["points"]
    assert point["output_tokens"] == 12
    assert point["tpot_ms"]["p50"] == near(200 / 11)


def test_a_server_without_usage_is_not_guessed_at() -> None:
    (point,) = measure(Server(lambda body, index: Answer(has_usage=False)), num_requests=2)[
        "points"
    ]
    assert (point["whole"], point["without_usage"], point["output_tokens"]) == (2, 2, 0)
    assert point["tpot_ms"] is None
    assert point["itl_ms"]["p50"] == near(100)


def test_closed_loop_keeps_that_many_users_busy() -> None:
    server = Server()
    (point,) = measure(server, concurrency=(3,), num_requests=9)["points"]
    assert (server.peak_running, point["peak_concurrency"]) == (3, 3)
    assert point["seconds"] == pytest.approx(3 * 0.7)
    assert set(point["timeline"]["running"]) == {3}
    assert point["kept_share"] is None


def test_closed_loop_ends_with_its_time() -> None:
    """No new request after it, and those that run are read to their end."""
    (point,) = measure(Server(), seconds=2.0)["points"]
    assert (point["requests"], point["whole"]) == (3, 3)
    assert point["seconds"] == pytest.approx(3 * 0.7)


def test_open_loop_sends_when_it_is_meant_to() -> None:
    """Whether or not answers come: at a constant rate of 10 and 0.7 s an answer, 7 overlap."""
    server = Server()
    options = {"rates": (10.0,), "burstiness": CONSTANT, "num_requests": 20}
    (point,) = measure(server, **options)["points"]
    start = server.arrived[0].at
    assert [r.at - start for r in server.arrived] == pytest.approx([i / 10 for i in range(20)])
    assert point["table"]["at_seconds"] == pytest.approx([i / 10 for i in range(20)])
    assert point["peak_concurrency"] in (7, 8)
    assert (point["ttft_ms"]["max"], point["kept_share"]) == (near(500), 1.0)


def test_a_stall_is_charged_for_every_request_it_delays() -> None:
    """Coordinated omission: at most one request at a time, and the first takes ten seconds.

    Those behind it were meant to be sent long before; that is what their users waited from. From
    the sending they look quick, and that is reported beside it.
    """
    server = Server(lambda body, index: Answer(ttft=10.0 if index == 0 else 0.5, gaps=()))
    options = {"rates": (1.0,), "burstiness": CONSTANT, "num_requests": 4, "max_concurrency": 1}
    (point,) = measure(server, **options)["points"]
    intended = [10.0, 10.5 - 1, 11.0 - 2, 11.5 - 3]
    assert point["table"]["ttft_ms"] == [near(1000 * seconds) for seconds in intended]
    assert point["ttft_from_send_ms"]["p50"] == near(500)
    assert point["e2e_from_send_ms"]["max"] == near(10_000)
    assert point["client"]["send_lag_ms"]["max"] == near(0), "a full house is not the client's lag"
    assert point["kept_share"] < 0.9


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (Answer(status=429), "429"),
        (Answer(status=503), "503"),
        (Answer(status=400), "400"),
        (Answer(ends="cut"), "stream"),
        (Answer(ends="abort"), "stream"),
        (Answer(ends="error"), "stream"),
        (Answer(ttft=99.0), "timeout"),
    ],
)
def test_failures_are_counted_by_their_names(answer: Answer, name: str) -> None:
    """They are in no latency: a server that refuses at once is not a fast one."""
    server = Server(lambda body, index: answer if index % 2 else Answer())
    (point,) = measure(server, num_requests=4, timeout=30.0)["points"]
    assert (point["requests"], point["whole"], point["errors"]) == (4, 2, {name: 2})
    assert point["e2e_ms"]["max"] == near(700)
    assert point["table"]["error"] == [None, name, None, name]


def test_nobody_listens() -> None:
    async def main() -> dict[str, Any]:
        async with Server().listen() as server:
            target = server.target
        return await run(target, LoadSettings(model="tiny", num_requests=2, warmup=0), clock=now)

    (point,) = in_virtual_time(main())["points"]
    assert point["errors"] == {"connection": 2}
    assert point["ttft_ms"] is None


def test_retries_are_counted_and_their_wait_is_paid() -> None:
    """Retry-After is honoured; latency counts from the first intention."""
    server = Server(
        lambda body, index: Answer(status=429, retry_after=3) if not index else Answer()
    )
    (point,) = measure(server, num_requests=1, max_retries=2)["points"]
    assert (point["whole"], point["retries"], point["errors"]) == (1, 1, {})
    assert point["ttft_ms"]["p50"] == near(3500)
    assert server.arrived[1].at - server.arrived[0].at == pytest.approx(3.0)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_server_that_closes_each_connection(is_chunked: bool) -> None:
    """With a length, with chunks, or with nothing but its hanging up."""
    server = Server(lambda body, index: Answer(is_kept_alive=False, is_chunked=is_chunked))
    (point,) = measure(server, num_requests=3)["points"]
    assert (point["whole"], server.num_connections) == (3, 3)


def test_warm_up_is_not_counted() -> None:
    server = Server(lambda body, index: Answer(ttft=9.0 if index < 2 else 0.5))
    (point,) = measure(server, num_requests=3, warmup=2)["points"]
    assert (len(server.arrived), point["requests"]) == (5, 3)
    assert point["ttft_ms"]["max"] == near(500)


def test_a_conversation_goes_on_with_what_was_answered() -> None:
    """Three turns, two seconds of thought before each further one."""
    server = Server()
    mix = Mix(prompt=Length(5), num_turns=3, think_seconds=2.0)
    (point,) = measure(server, mix=mix, num_requests=1)["points"]
    assert point["table"]["turn"] == [0, 1, 2]
    first, second, third = (request.body["messages"] for request in server.arrived)
    assert [m["role"] for m in third] == ["user", "assistant", "user", "assistant", "user"]
    assert second == [*first, {"role": "assistant", "content": "t0 t1 t2 "}, second[-1]]
    assert third[:3] == second
    waits = [b.at - a.at for a, b in zip(server.arrived, server.arrived[1:], strict=False)]
    assert waits == pytest.approx([2.7, 2.7])
    assert point["ttft_ms"]["max"] == near(500), "thinking is not waiting"


def test_goodput_counts_the_answers_that_keep_every_limit() -> None:
    server = Server(lambda body, index: Answer(ttft=0.2 * (index + 1), gaps=(0.1,)))
    goals = Goals.read(["ttft:450", "e2e:1000"])
    (point,) = measure(server, num_requests=4, goals=goals)["points"]
    assert point["goodput_share"] == 0.5
    assert point["goodput_per_second"] == pytest.approx(2 / point["seconds"], abs=0.001)


def test_the_median_of_repeats_is_shown() -> None:
    server = Server(lambda body, index: Answer(ttft=[9.0, 1.0, 2.0][index // 2]))
    (point,) = measure(server, num_requests=2, repeats=3)["points"]
    assert point["ttft_ms"]["p50"] == near(2000)
    assert len(point["repeats_output_tokens_per_second"]) == 3


def test_a_sweep_of_users_stops_where_throughput_does() -> None:
    """A server of four lanes: more than four users only wait longer."""
    server = Server()
    server.answer = lambda body, index: Answer(
        ttft=0.5 * max(1.0, (server.num_running + 1) / 4), gaps=()
    )
    result = measure(server, is_sweep=True, num_requests=32)
    users = [point["concurrency"] for point in result["points"]]
    assert users[:3] == [1, 2, 4]
    assert result["saturation"]["concurrency"] in (4, 8)
    assert "Saturated from" in saturation_line(result)


def test_a_sweep_that_ends_at_its_limit_found_nothing() -> None:
    """Throughput still rises: that is no saturation point."""
    result = measure(Server(), is_sweep=True, sweep_limit=4, num_requests=16)
    assert [point["concurrency"] for point in result["points"]] == [1, 2, 4]
    assert saturation_line(result).startswith("Not saturated: ")


def test_a_sweep_of_rates_finds_what_is_kept() -> None:
    """One request at a time, a second each: a rate of 1 is the most there is."""
    busy_until = [0.0]

    def answer(body: dict[str, Any], index: int) -> Answer:
        busy_until[0] = max(busy_until[0], now()) + 1.0
        return Answer(ttft=busy_until[0] - now(), gaps=())

    options = {"rates": (0.3,), "burstiness": CONSTANT, "num_requests": 60, "is_sweep": True}
    result = measure(Server(answer), **options)
    rates = [point["rate"] for point in result["points"]]
    assert rates == sorted(rates)
    assert 0.85 <= result["saturation"]["rate"] <= 1.15
    assert "Kept up with" in saturation_line(result)


def test_the_model_is_asked_for_and_settings_are_in_the_result() -> None:
    server = Server()
    params = {"temperature": 0.5, "ignore_eos": True}
    result = measure(server, model=None, num_requests=1, params=params, seed=7)
    body = server.arrived[0].body
    assert (result["model"], body["model"], body["temperature"]) == ("tiny", "tiny", 0.5)
    assert body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert result["settings"]["seed"] == 7
    assert OfferedLoad(concurrency=1).concurrency == result["points"][0]["concurrency"]


def test_the_same_seed_sends_the_same_and_another_does_not() -> None:
    def bodies(seed: int) -> list[Any]:
        server = Server()
        measure(server, num_requests=3, seed=seed)
        return [request.body["messages"] for request in server.arrived]

    assert bodies(1) == bodies(1) != bodies(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": (2,), "rates": (1.0,)}, "choose one"),
        ({"ramp_to": 5.0}, "'ramp_to' needs one 'rate'"),
        ({"mix": Mix(num_turns=2), "is_chat": False}, "'turns' needs chat"),
        ({"concurrency": (0,)}, "'concurrency' must be greater than 0"),
        ({"rates": (-1.0,)}, "'rates' must be greater than 0"),
        ({"repeats": 0}, "'repeats' must be greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadSettings(**options)
