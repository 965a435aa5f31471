"""The retry policy as the pure function that it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.clients.errors import (
    APIError,
    ConnectionFailed,
    StreamBroken,
    ThirdeyeError,
    Timeout,
    error_from,
)
from thirdeye.clients.retry import LONGEST_WAIT, RetryPolicy, read_retry_after, read_should_retry

POLICY = RetryPolicy()


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_statuses_that_a_second_try_can_mend(status: int) -> None:
    assert POLICY.wait(error_from(status, ""), 0, 0.0) == 0.5


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 413, 422, None])
def test_statuses_that_it_cannot(status: int | None) -> None:
    assert POLICY.wait(error_from(status, ""), 0, 0.0) is None


@pytest.mark.parametrize(
    ("error", "waits"),
    [(ConnectionFailed(), True), (Timeout(), False), (StreamBroken(), False)],
)
def test_failures_without_a_status(error: ThirdeyeError, waits: bool) -> None:
    assert (POLICY.wait(error, 0, 0.0) is not None) is waits


def test_waits_double_up_to_the_cap_and_end() -> None:
    policy = RetryPolicy(max_retries=7)
    waits = [policy.wait(ConnectionFailed(), attempt, 0.0) for attempt in range(8)]
    assert waits == [0.5, 1, 2, 4, 8, 8, 8, None]


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_a_quarter(attempt: int, chance: float) -> None:
    policy = RetryPolicy(max_retries=10**7)
    full = policy.wait(ConnectionFailed(), attempt, 0.0)
    wait = policy.wait(ConnectionFailed(), attempt, chance)
    assert full is not None
    assert wait is not None
    assert 0.75 * full <= wait <= full <= 8


def test_the_server_names_the_wait() -> None:
    """Exactly as asked, without jitter; beyond two minutes the caller decides."""
    assert POLICY.wait(error_from(429, "", retry_after=17.5), 1, 0.9) == 17.5
    assert POLICY.wait(error_from(429, "", retry_after=0.0), 0, 0.9) == 0.0
    assert POLICY.wait(error_from(429, "", retry_after=LONGEST_WAIT), 0, 0.9) == LONGEST_WAIT
    assert POLICY.wait(error_from(429, "", retry_after=LONGEST_WAIT + 1), 0, 0.9) is None


def test_the_server_has_the_last_word() -> None:
    assert POLICY.wait(error_from(503, "", should_retry=False), 0, 0.0) is None
    assert POLICY.wait(error_from(400, "", should_retry=True), 0, 0.0) == 0.5
    assert POLICY.wait(error_from(400, "", should_retry=True), 2, 0.0) is None


def test_no_retries() -> None:
    assert RetryPolicy(max_retries=0).wait(ConnectionFailed(), 0, 0.0) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "60"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "60"}, 60.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "Thu, 32 Jan 1970 99:00:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_reading_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, now=10.0) == seconds


@given(st.text())
def test_any_header_reads(value: str) -> None:
    """Nonsense from a server is no wait and no crash."""
    seconds = read_retry_after({"retry-after": value}, now=0.0)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("value", "word"), [("true", True), ("False", False), ("maybe", None), ("", None)]
)
def test_reading_should_retry(value: str, word: bool | None) -> None:
    assert read_should_retry({"x-should-retry": value}) is word


def test_an_error_in_mid_stream_takes_its_status_from_its_code() -> None:
    """vLLM writes the status into `code`."""
    error: APIError = error_from(None, {"error": {"message": "gone", "code": 404}})
    assert (type(error).__name__, error.status, error.code) == ("NotFound", 404, "404")
