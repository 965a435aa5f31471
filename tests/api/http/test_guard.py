"""The connection guard over real sockets: slow and large heads, slow bodies, many connections."""

import json
import logging
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.api.support import CHAT, EOS, eventually, fake_engine, live, ready_state
from tests.e2e.procfs import has_read_all
from thirdeye.server.transport.answering_protocol import AnsweringProtocol
from thirdeye.server.transport.connection_guard import guarded

HEAD_SECONDS, BODY_SECONDS, CONNECTIONS = 0.4, 0.7, 20
PATIENCE = 20  # seconds that a busy machine may take on top; without a limit it would be for ever
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = json.dumps(CHAT | {"stream": True}).encode()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with short limits, whose streams take about a second."""
    with guarded_server(HEAD_SECONDS, BODY_SECONDS, delay=0.1) as port:
        yield port


@pytest.fixture(scope="module")
def patient() -> Iterator[int]:
    """One that no test meets the limits of."""
    with guarded_server(60, 60, delay=0) as port:
        yield port


@pytest.fixture(scope="module")
def few_bytes() -> Iterator[int]:
    """One that reads 20 kB of a body, and waits for it as long as it takes."""
    with guarded_server(60, 60, delay=0, max_raw_body_bytes=20_000) as port:
        yield port


@contextmanager
def guarded_server(
    head_seconds: float, body_seconds: float, delay: float, **more: float
) -> Iterator[int]:
    limits = {"head_seconds": head_seconds, "body_seconds": body_seconds, **more}
    protocol = guarded(max_connections=CONNECTIONS, **limits)
    state = ready_state(fake_engine([*b"x" * 10, EOS], delay=delay))
    with live(state, http=protocol) as url:
        yield int(url.rpartition(":")[2])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def post(body: bytes, extra: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n" + extra
        + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )  # fmt: skip


def status(data: bytes) -> int:
    """An answer's status; an error must have the envelope of all others."""
    code = int(data.split(None, 2)[1])
    if code >= 400:
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"\r\nx-request-id: " in head
        error = json.loads(body)["error"]
        assert (error["type"] == "server_error") == (code >= 500)
        assert (error["param"], bool(error["message"])) == (None, True)
    return code


@pytest.mark.parametrize("start", [b"", b"G", b"GET /health HTTP/1.1\r\nHost: loc"])
def test_slow_heads_are_closed_with_408(port: int, start: bytes) -> None:
    """uvicorn would wait for ever."""
    began = time.monotonic()
    with connect(port) as connection:
        connection.sendall(start)
        assert status(rest(connection)) == 408
    assert HEAD_SECONDS * 0.8 < time.monotonic() - began < HEAD_SECONDS + PATIENCE


def test_a_byte_now_and_then_does_not_help(port: int) -> None:
    """The timer is absolute: slowloris sends just enough."""
    with connect(port) as connection:
        began = time.monotonic()
        for byte in b"GET /health HTTP/1.1\r\n" * 100:
            try:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
            except OSError:
                break
        assert time.monotonic() - began < HEAD_SECONDS + PATIENCE


CHUNKED = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
NOWHERE = CHUNKED.replace(b"/v1/chat/completions", b"/nowhere")
FLOODS = {
    "words behind a chunk's size": (CHUNKED + b"5;", b"e" * 2**16, 413),
    "words behind each of many": (CHUNKED, (b"1;" + b"e" * 500 + b"\r\n \r\n") * 100, 413),
    "a body behind its answer": (NOWHERE, b"10000\r\n" + b"a" * 2**16 + b"\r\n", 404),
    "words behind the answer": (NOWHERE + b"5;", b"e" * 2**16, 404),
}


@pytest.mark.parametrize(("start", "more", "code"), FLOODS.values(), ids=FLOODS)
def test_what_stands_beside_a_body_is_counted(
    few_bytes: int, start: bytes, more: bytes, code: int
) -> None:
    """Nothing of it reaches who counts a body: at the speed of the wire, until its time is up."""
    with connect(few_bytes) as connection:
        connection.sendall(start)
        if code == 404:
            assert connection.recv(16).startswith(b"HTTP/1.1 404 ")
        with suppress(OSError):
            for _ in range(1000):
                connection.sendall(more)
            pytest.fail("all was read")
        with suppress(ConnectionResetError):
            assert code == 404 or connection.recv(16).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_many_small_chunks_is_read(few_bytes: int) -> None:
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in json.dumps(CHAT).encode()) + b"0\r\n\r\n"
    with connect(few_bytes) as connection:
        for _ in range(3):  # of one connection: each is counted anew
            connection.sendall(CHUNKED + body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_slow_bodies_are_closed_with_408(port: int) -> None:
    began = time.monotonic()
    with connect(port) as connection:
        connection.sendall(post(STREAM)[:-5])
        assert status(rest(connection)) == 408
    assert BODY_SECONDS * 0.8 < time.monotonic() - began < BODY_SECONDS + PATIENCE


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(101)) + b"\r\n",
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 300_000,
    ],
    ids=["url", "one header", "101 headers", "endless header"],
)
def test_large_heads_are_431(patient: int, head: bytes) -> None:
    """26 MB of headers got a 200."""
    with connect(patient) as connection:
        with suppress(OSError):
            connection.sendall(head)
        data = rest(connection)
        assert not data or status(data) == 431


def test_a_large_head_in_two_parts_is_431(patient: int) -> None:
    with connect(patient) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000)
        eventually(lambda: has_read_all(connection))
        connection.sendall(b"x" * 20_000)
        assert status(rest(connection)) == 431


def test_allowed_heads_pass(patient: int) -> None:
    """99 headers; 30 KB in two parts; a blank line split over two segments before a large body."""
    many = b"".join(b"X%d: 1\r\n" % i for i in range(97))
    with connect(patient) as connection:
        connection.sendall(GET[:-2] + many + b"Connection: close\r\n\r\n")
        assert status(rest(connection)) == 200
    with connect(patient) as connection:
        connection.sendall(GET[:-2] + b"Connection: close\r\nX: " + b"x" * 15_000)
        eventually(lambda: has_read_all(connection))
        connection.sendall(b"x" * 15_000 + b"\r\n\r\n")
        assert status(rest(connection)) == 200
    with connect(patient) as connection:
        large = json.dumps(CHAT | {"user": "x" * 100_000, "max_tokens": 1}).encode()
        message = post(large, b"Connection: close\r\n")
        split = message.index(b"\r\n\r\n") + 2
        connection.sendall(message[:split])
        eventually(lambda: has_read_all(connection))
        connection.sendall(message[split:])
        assert status(rest(connection)) == 200


def test_who_sent_good_http_is_not_blamed_for_a_lack_of_memory(
    patient: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The parser tells whatever a callback raises as an error in HTTP."""

    def on_body(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(AnsweringProtocol, "on_body", on_body)
    with connect(patient) as connection:
        connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 5\r\n" in answer
    assert b'"code":"out_of_memory"' in answer
    assert "no memory to read a request" in caplog.text


def test_a_running_stream_is_left_alone(port: int) -> None:
    """It outlives both timers, also with half of the next head behind it: no 408 is in it."""
    with connect(port) as connection:
        connection.sendall(post(STREAM) + b"GET /hea")
        data = rest(connection)
        assert status(data) == 200
        end = data.index(b"data: [DONE]")
        assert b"HTTP/1.1 408" not in data[:end]  # ids and timings hold digits, too
        assert data.count(b"[DONE]") == 1


def test_a_refusal_is_never_written_into_a_running_stream(port: int) -> None:
    """An oversized head behind a stream closes the connection, and says nothing."""
    with connect(port) as connection:
        connection.sendall(post(STREAM))
        data = connection.recv(65536)  # it has begun
        connection.sendall(b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000)
        data += rest(connection)
        assert status(data) == 200
        assert b"HTTP/1.1 431" not in data


def test_the_bytes_of_a_body_do_not_count_as_the_next_head(patient: int) -> None:
    """A body of 40 KB and the start of a second request in one piece were a false 431."""
    large = json.dumps(CHAT | {"user": "x" * 40_000, "max_tokens": 1}).encode()
    with connect(patient) as connection:
        connection.sendall(post(large) + GET[:10])
        eventually(lambda: has_read_all(connection))
        connection.sendall(GET[10:-2] + b"Connection: close\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "data",
    [
        b"BREW /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS \r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nX\x00: y\r\n\r\n",
        post(b"{}", b"Transfer-Encoding: chunked\r\n"),
        post(b"{}", b"Content-Length: 7\r\n"),
    ],
)
def test_what_is_no_http_gets_an_error_like_all_others(patient: int, data: bytes) -> None:
    """It was one line of plain text, without a request id, which no client can read."""
    with connect(patient) as connection:
        connection.sendall(data)
        assert status(rest(connection)) == 400


@pytest.mark.parametrize(
    "target",
    [
        "CONNECT 127.0.0.1:22",
        "CONNECT a:1",
        "CONNECT /health",
        "GET http://",
        "GET http://[::1",
        "GET http://a:99999/health",
        "GET ?",
        "GET a",
        "GET \xff",
    ],
)
def test_a_target_without_a_path_is_refused_in_one_line(
    patient: int, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It got no answer, and its caller a traceback of 34 lines in the log, without any key."""
    caplog.set_level(logging.WARNING, "uvicorn.error")
    with connect(patient) as connection:
        connection.sendall(f"{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
        assert status(rest(connection)) == 400
    assert all(record.exc_info is None for record in caplog.records)
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]


@pytest.mark.parametrize("target", ["/health?a=/", "http://elsewhere/health", "//health", "*"])
def test_targets_with_a_path_are_answered(patient: int, target: str) -> None:
    with connect(patient) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        assert status(rest(connection)) in (200, 404)


def test_an_upgrade_that_nobody_offers_is_passed_over(patient: int) -> None:
    fields = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    with connect(patient) as connection:
        connection.sendall(GET[:-2] + fields)
        assert status(rest(connection)) == 200


def test_garbage_behind_a_request_does_not_get_into_its_stream(port: int) -> None:
    """A second status line was written into the middle of the first answer's body."""
    with connect(port) as connection:
        connection.sendall(post(STREAM))
        data = connection.recv(65536)
        assert status(data) == 200
        connection.sendall(b"GARBAGE\r\n\r\n")
        assert b"HTTP/1.1 400" not in data + rest(connection)


def test_keep_alive_and_pipelining_work(patient: int) -> None:
    with connect(patient) as connection:
        connection.sendall(GET + GET)
        connection.sendall(GET[:-2] + b"Connection: close\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200") == 3


def test_too_many_connections_get_503(patient: int) -> None:
    """And the places are free again when they leave."""
    connections = [connect(patient) for _ in range(CONNECTIONS + 5)]
    try:
        refused = 0
        for connection in connections[CONNECTIONS:]:
            data = rest(connection)
            refused += status(data) == 503
            assert b"retry-after: 1" in data
        assert refused == 5
    finally:
        for connection in connections:
            connection.close()

    def is_served() -> bool:
        with connect(patient) as connection:
            connection.sendall(GET[:-2] + b"Connection: close\r\n\r\n")
            return status(rest(connection)) == 200

    eventually(is_served)


@pytest.mark.parametrize("path", ["/openapi.json", "/health", "/v1/models"])
def test_a_pipelining_client_that_leaves_is_no_bug(
    patient: int, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks five hundred times, reads nothing, and goes with a reset in the midst of answers."""
    caplog.set_level(logging.INFO)
    asks = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 500
    for _ in range(3):
        with connect(patient) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(asks)
            select.select([connection], [], [], 10)  # the first answer is on its way
    with connect(patient) as connection:
        connection.sendall(GET)
        assert b" 200 " in connection.recv(100)
    found = [r for r in caplog.records if r.levelno >= logging.WARNING or "bug" in r.getMessage()]
    assert found == []


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_pipelining_client_that_leaves_is_not_computed_for(is_streamed: bool) -> None:
    """Of three requests on one connection the first is running: it is aborted, the others do not
    begin."""
    engine = fake_engine([*b"x" * 500, EOS], delay=0.1)
    body = json.dumps(CHAT | {"stream": is_streamed, "max_tokens": 500}).encode()
    ask = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    with live(ready_state(engine), http=guarded(head_seconds=60, body_seconds=60)) as url:
        with connect(int(url.rpartition(":")[2])) as connection:
            connection.sendall(ask * 3)
            eventually(lambda: engine.stats().num_requests_running == 1)
        eventually(lambda: len(engine.aborted) == 1)
        assert engine.stats().num_requests_running == 0
