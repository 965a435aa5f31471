"""Programs that are less than browsers: a slash too many, HTTP/1.0, platforms' probes."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.api.http.test_errors import ask
from tests.api.support import CHAT, COMPLETION, fake_engine, live, ready_state
from thirdeye.server.api.http.api_config import ApiConfig

KEYED = ApiConfig(api_keys=("k",))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with live(ready_state(fake_engine())) as url:
        yield int(url.rpartition(":")[2])


def status_of(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


def test_a_slash_at_the_end_does_not_matter() -> None:
    for path in ("/health/", "/v1/models/", "/v1/models/org/tiny/"):
        assert ask(path, None, method="GET").status_code == 200, path
    assert ask("/v1/chat/completions/", CHAT).status_code == 200
    assert ask("/v1/models//", None, method="GET").status_code == 404


def test_a_slash_opens_no_door() -> None:
    """The gate looks at the same path as the router."""
    assert ask("/v1/models/", None, method="GET", config=KEYED).status_code == 401
    assert ask("/health/", None, method="GET", config=KEYED).status_code == 200
    assert "type" in ask("/v1/messages/", {"x": 1}).json(), "the dialect's own envelope"


def test_ping_is_health_and_needs_no_key() -> None:
    assert ask("/ping", None, method="GET", config=KEYED).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"GET /v1/models HTTP/1.0", b"", 200),
        (b"GET /v1/models HTTP/1.0", b"Host: localhost\r\n", 200),
        (b"GET /v1/models HTTP/1.0", b"Host: evil.example\r\n", 403),
        (b"GET /v1/models HTTP/1.0", b"Origin: http://evil.example\r\n", 403),
    ],
)
def test_http_1_0_may_name_no_host(
    port: int, request_line: bytes, headers: bytes, status: int
) -> None:
    assert status_of(port, request_line + b"\r\n" + headers + b"\r\n") == status


@pytest.mark.parametrize(("version", "said"), [(b"1.0", [b"close"]), (b"1.1", [])])
def test_a_stream_says_once_what_becomes_of_the_connection(
    port: int, version: bytes, said: list[bytes]
) -> None:
    body = json.dumps(CHAT | {"stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/%b\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (version, len(body), body)
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
    lines = [line.lower() for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    found = [line.partition(b":")[2].strip() for line in lines if line.startswith(b"connection:")]
    assert found == said


def test_http_1_1_must(port: int) -> None:
    assert status_of(port, b"GET /v1/models HTTP/1.1\r\n\r\n") in (400, 403)


def test_the_load_says_how_many_requests_are_here() -> None:
    state = ready_state(fake_engine())
    state.admission.admit(3)
    assert ask("/load", None, method="GET", state=state).json()["server_load"] == 3


def test_vllms_keys_are_null_where_nobody_asked_for_them() -> None:
    chat = ask("/v1/chat/completions", CHAT).json()
    assert (chat["prompt_token_ids"], chat["prompt_logprobs"]) == (None, None)
    (choice,) = ask("/v1/completions", COMPLETION).json()["choices"]
    assert (choice["prompt_token_ids"], choice["prompt_logprobs"]) == (None, None)
