"""Limits of each key: what is let in, what is told, and when a key may come back."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.support import (
    CHAT,
    COMPLETION,
    client_over,
    eventually,
    fake_engine,
    live,
    ready_state,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.rate_limits import FEW, RATE_HEADERS, Account, Rates, duration
from thirdeye.server.errors import RequestsLimited, TokensLimited

CHAT_URL = "/v1/chat/completions"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counting(Clock):
    num_looks = 0

    def __call__(self) -> float:
        self.num_looks += 1
        return super().__call__()


def admit(rates: Rates, caller: str, num_tokens: int, headers: dict[str, str]) -> Account:
    account = rates.open(caller, headers)
    account.charge(requests=1, tokens=num_tokens)
    return account


def test_requests_run_out_and_come_back_evenly() -> None:
    clock = Clock()
    rates = Rates({"requests": 6}, clock)
    for left in (5, 4, 3, 2, 1, 0):
        headers: dict[str, str] = {}
        admit(rates, "key", 10, headers)
        assert headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RequestsLimited, match="limit of 6 requests a minute") as refused:
        admit(rates, "key", 10, headers)
    assert refused.value.headers == {"Retry-After": "10", "retry-after-ms": "10000"}
    assert headers["x-ratelimit-reset-requests"] == "1m0s"
    admit(rates, "other", 10, {})
    clock.now += 10
    admit(rates, "key", 10, {})
    assert rates.num_rejected == 1


def test_whom_a_gateway_asked_for_is_told_his_own_name() -> None:
    rates = Rates({"requests": 1}, Clock())
    for caller, whose in (("gate", "this key"), ("gate:ann", "the caller 'ann' of this key")):
        admit(rates, caller, 1, {})
        with pytest.raises(RequestsLimited, match=f"is reached for {whose}"):
            admit(rates, caller, 1, {})


def test_tokens_are_charged_when_they_are_known() -> None:
    """A prompt at once, its answer at its end: a long answer makes its key wait."""
    clock = Clock()
    rates = Rates({"tokens": 60}, clock)
    headers: dict[str, str] = {}
    account = admit(rates, "key", 20, headers)
    assert headers["x-ratelimit-remaining-tokens"] == "40"
    account.charge(tokens=79)  # 39 below nothing
    with pytest.raises(TokensLimited) as refused:
        admit(rates, "key", 1, headers)
    assert refused.value.headers["Retry-After"] == "40"
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 40
    admit(rates, "key", 1, {})


def test_a_prompt_larger_than_the_minute_gets_in_when_nothing_was_used() -> None:
    rates = Rates({"tokens": 10}, Clock())
    admit(rates, "key", 500, {})
    with pytest.raises(TokensLimited):
        admit(rates, "key", 1, {})


def test_a_bucket_never_holds_more_than_its_minute() -> None:
    clock = Clock()
    rates = Rates({"requests": 2}, clock)
    clock.now += 3600
    admit(rates, "key", 1, {})
    admit(rates, "key", 1, {})
    with pytest.raises(RequestsLimited):
        admit(rates, "key", 1, {})


def test_full_buckets_are_forgotten() -> None:
    """Callers who have asked once, and not again, are a bounded number of books."""
    clock = Clock()
    rates = Rates({"requests": 60}, clock)
    for number in range(1000):
        admit(rates, f"caller {number}", 1, {})
        clock.now += 2
    assert len(rates._buckets) <= FEW


def test_a_request_looks_at_few_books_of_others() -> None:
    """Two thousand users of a gateway within a minute: each request went through all of them."""
    clock = Counting()
    rates = Rates({"requests": 60, "tokens": 60}, clock)
    for number in range(2000):
        admit(rates, f"gateway:{number}", 1, {})
    assert len(rates._buckets) == 2000
    assert clock.num_looks < 40 * 2000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.02, "20ms"), (0.0195, "20ms"), (1, "1s"), (59.5, "1m0s"), (360, "6m0s"), (0, "0ms")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def ask(config: ApiConfig, bodies: list[dict[str, Any]], **headers: str) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        state = ready_state(fake_engine())
        async with client_over(state, config, headers=headers) as client:
            answers = [await client.post(CHAT_URL, json=body) for body in bodies]
            answers.append(await client.get("/metrics"))
            assert state.admission.in_flight == 0
            return answers

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_the_answer_says_what_is_left_and_the_refusal_when_to_come_back(kind: str) -> None:
    """Row 33 of the table of errors; streams say it in their head, and metrics count it."""
    config = (
        ApiConfig(requests_per_minute=1) if kind == "requests" else ApiConfig(tokens_per_minute=20)
    )
    good, refused, metrics = ask(config, [CHAT | {"stream": True}, CHAT])
    assert good.status_code == 200
    assert good.headers[f"x-ratelimit-limit-{kind}"] in ("1", "20")
    assert int(good.headers[f"x-ratelimit-remaining-{kind}"]) in (0, 1)
    error = check_envelope(refused)
    assert (refused.status_code, error["type"], error["param"], error["code"]) == (
        429,
        kind,
        None,
        "rate_limit_exceeded",
    )
    assert "a minute is reached" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers[f"x-ratelimit-remaining-{kind}"] == "0"
    assert refused.headers[f"x-ratelimit-reset-{kind}"]
    line = 'thirdeye_admission_rejections_total{model_name="tiny",reason="rate_limit"} 1.0'
    assert line in metrics.text
    assert metrics.text.count("# TYPE thirdeye_admission_rejections_total") == 1


def test_without_limits_nothing_is_said() -> None:
    answer, _ = ask(ApiConfig(), [CHAT])
    assert not set(RATE_HEADERS) & set(answer.headers)


def test_a_bad_request_costs_nothing() -> None:
    bad, good, _ = ask(ApiConfig(requests_per_minute=1), [COMPLETION, CHAT])
    assert (bad.status_code, good.status_code) == (400, 200)


def test_a_full_queue_costs_nothing() -> None:
    """Who is sent away before any work has nothing to pay."""

    async def main() -> None:
        state = ready_state(fake_engine())
        permit = state.admission.admit(24)
        async with client_over(state, ApiConfig(requests_per_minute=2)) as client:
            refused = await client.post(CHAT_URL, json=CHAT)
            assert refused.json()["error"]["type"] == "server_overloaded"
            assert refused.headers["x-ratelimit-remaining-requests"] == "2"
            permit.release()
            good = await client.post(CHAT_URL, json=CHAT)
            assert good.headers["x-ratelimit-remaining-requests"] == "1"

    asyncio.run(main())


def test_so_many_answers_at_once_and_no_more() -> None:
    """Each key has its own places; one that ended, well or not, is free at once."""
    rates = Rates(at_once=2)
    seen: dict[str, str] = {}
    held = []
    for remaining in ("1", "0"):
        held.append(rates.open("a", seen))
        held[-1].begin()
        assert seen["x-ratelimit-remaining-concurrent"] == remaining
    with pytest.raises(RequestsLimited, match="2 answers are under way"):
        rates.open("a", seen)
    assert (seen["x-ratelimit-limit-concurrent"], rates.num_rejected) == ("2", 1)
    rates.open("b", {}).begin()
    held[0].end()
    rates.open("a", seen).begin()


def test_streams_hold_their_places_until_they_end() -> None:
    config = ApiConfig(concurrent_requests=1)
    gate = threading.Event()
    state = ready_state(fake_engine(gate=gate))
    with live(state, config) as url, ThreadPoolExecutor(1) as pool:
        ask = partial(httpx.post, url + CHAT_URL, json=CHAT, trust_env=False, timeout=10)
        first = pool.submit(ask)
        eventually(lambda: state.admission.in_flight == 1)
        refused = ask()
        gate.set()
        assert (first.result().status_code, refused.status_code) == (200, 429)
        assert first.result().headers["x-ratelimit-remaining-concurrent"] == "0"
        assert check_envelope(refused)["code"] == "rate_limit_exceeded"
        eventually(lambda: state.admission.in_flight == 0)
        assert ask().status_code == 200
