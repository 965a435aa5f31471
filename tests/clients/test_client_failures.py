"""Both clients where something goes wrong: refusals, retries, timeouts, answers that are none."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.clients.stub import Stub, chat_events, chat_json, error, head
from tests.clients.test_client import texts
from thirdeye.clients import errors
from thirdeye.clients.base_client import failure_of
from thirdeye.clients.target import Target


def unused_url() -> str:
    with Stub() as gone:
        return gone.url


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_value", errors.BadRequest),
        (400, "context_length_exceeded", errors.ContextLengthExceeded),
        (413, "request_too_large", errors.BadRequest),
        (401, "invalid_api_key", errors.Authentication),
        (403, None, errors.Authentication),
        (404, "model_not_found", errors.NotFound),
        (409, None, errors.BadRequest),
        (429, "rate_limit_exceeded", errors.RateLimited),
        (500, "internal_error", errors.ServerError),
        (503, "model_loading", errors.Overloaded),
    ],
)
def test_refusals(
    connect: Callable[..., Any], stub: Stub, status: int, code: str | None, kind: type
) -> None:
    client = connect(max_retries=0)
    stub.reply(error("No.", code, "n"), status, [("x-request-id", "req_7"), ("retry-after", "3")])
    with pytest.raises(errors.APIError, match="No") as caught:
        client.chat("Hi", model="tiny")
    problem = caught.value
    assert type(problem) is kind
    assert (problem.status, problem.code, problem.param) == (status, code, "n")
    assert (problem.request_id, problem.retry_after) == ("req_7", 3.0)
    assert str(problem) == f"No. ({status})"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_retry_mends(client: Any, stub: Stub, status: int) -> None:
    for _ in range(2):
        stub.reply(error("busy"), status, [("retry-after-ms", "5"), ("retry-after", "60")])
    stub.reply(chat_json("at last"))
    assert client.chat("Hi", model="tiny").text == "at last"
    assert len(stub.requests) == 3
    assert len({request.raw for request in stub.requests}) == 1


def test_a_stream_is_retried_until_it_begins(client: Any, stub: Stub) -> None:
    stub.reply(error("busy"), 503, [("retry-after-ms", "5")])
    assert texts(client.stream_chat("Hi", model="tiny")) == ["Hello", " there", "!"]
    assert len(stub.requests) == 2


def test_retries_end(client: Any, stub: Stub) -> None:
    for _ in range(3):
        stub.reply(error("busy"), 429, [("retry-after-ms", "5")])
    with pytest.raises(errors.RateLimited):
        client.chat("Hi", model="tiny")
    assert len(stub.requests) == 3


def test_a_bad_request_is_not_retried(client: Any, stub: Stub) -> None:
    stub.reply(error("No."), 400)
    with pytest.raises(errors.BadRequest):
        client.chat("Hi", model="tiny")
    assert len(stub.requests) == 1


def test_the_server_forbids_a_retry(client: Any, stub: Stub) -> None:
    stub.reply(error("dead"), 503, [("x-should-retry", "false"), ("retry-after-ms", "5")])
    with pytest.raises(errors.Overloaded):
        client.chat("Hi", model="tiny")
    assert len(stub.requests) == 1


def test_a_hung_up_connection_is_tried_again(
    connect: Callable[..., Any], stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.999)
    stub.raw(b"")
    assert connect().chat("Hi", model="tiny").text == "Hello there!"
    assert len(stub.requests) == 2


def test_nobody_there(connect: Callable[..., Any]) -> None:
    url = unused_url()
    with pytest.raises(errors.ConnectionFailed, match=url):
        connect(url, max_retries=0).models()


def test_a_connect_that_times_out_found_nobody() -> None:
    """It is retried, unlike an answer that is late: the server has not begun on anything."""
    target = Target.find("http://10.255.255.1")
    assert isinstance(failure_of(httpx.ConnectTimeout(""), target), errors.ConnectionFailed)
    assert isinstance(failure_of(httpx.ReadTimeout(""), target), errors.Timeout)


def test_a_slow_answer_times_out_and_is_not_asked_for_twice(
    connect: Callable[..., Any], stub: Stub
) -> None:
    stub.raw(30.0)
    with pytest.raises(errors.Timeout, match="in time"):
        connect(timeout=0.1).chat("Hi", model="tiny")
    assert len(stub.requests) == 1


def test_a_stream_may_be_silent_longer_than_the_timeout(
    connect: Callable[..., Any], stub: Stub
) -> None:
    stub.stream(0.3, *chat_events("slow"))
    assert texts(connect(timeout=0.1).stream_chat("Hi", model="tiny")) == ["slow"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "plain"}', "plain"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"object": "error", "message": "flat", "code": 400}', "flat"),
        (b"upstream died\nstack", "upstream died"),
        (b"<html>502</html>", "no reason"),
        (b"", "no reason"),
        (b"[1]", "no reason"),
        (b'{"error": {"message": null, "detail": 3}}', "no reason"),
        (b"\xff\xfe", "\ufffd"),
        (b"[" * 100_000, "["),
    ],
)
def test_every_servers_errors_are_read(
    connect: Callable[..., Any], stub: Stub, body: bytes, message: str
) -> None:
    stub.reply(body, 400)
    with pytest.raises(errors.BadRequest) as caught:
        connect(max_retries=0).models()
    assert message in caught.value.message


def test_a_redirect_is_named_and_not_followed(client: Any, stub: Stub) -> None:
    """The key must not follow a redirect to another host."""
    stub.raw(head(307, "text/plain", [("location", "https://elsewhere/"), ("content-length", "0")]))
    with pytest.raises(errors.APIError, match="redirects to https://elsewhere/"):
        client.models()


def test_a_page_instead_of_json(client: Any, stub: Stub) -> None:
    stub.reply(b"<html>Hello</html>")
    with pytest.raises(errors.ThirdeyeError, match="not JSON"):
        client.models()


def test_stream_is_not_a_parameter_of_chat(client: Any) -> None:
    with pytest.raises(TypeError, match="stream_chat"):
        client.chat("Hi", model="tiny", stream=True)


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": [None]}, {"choices": 3, "usage": [], "id": 4}, []]
)
def test_a_crippled_answer_reads_as_empty(client: Any, stub: Stub, body: Any) -> None:
    """Reading is forgiving: what is missing is empty, and raw has what there was."""
    stub.reply(json.dumps(body).encode())
    answer = client.chat("Hi", model="tiny")
    assert (answer.text, answer.finish_reason, answer.usage) == ("", None, None)
