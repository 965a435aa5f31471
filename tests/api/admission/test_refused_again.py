"""Whoever comes with a head that has been refused hears it again, without a parser and a layer: the
same words, as long as the same holds. Whatever else comes is parsed."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from starlette.types import Scope

from tests.api.admission.test_early_refusal import full_house
from tests.api.admission.test_refused_at_once import CHAT_URL, connected, head, serving
from tests.api.support import CHAT, EOS, fake_engine, live, post_scope, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.gate import ENGINE_PATHS, EarlyRefusals
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.asgi_extension import EarlyAnswer
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.tracing.request_trace import NO_TRACER, NoTracer
from thirdeye.server.transport import known_heads
from thirdeye.server.transport.answering_protocol import AnsweringProtocol
from thirdeye.server.transport.connection_guard import GuardedProtocol
from thirdeye.server.transport.held_back import HeldBack

KEY = "Authorization: Bearer secret"
OF_THE_MOMENT = {"date", "x-request-id", "request-id"}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of heads that came out of the parser."""
    paths: list[str] = []
    refuse = EarlyRefusals.__call__

    def noted(self: EarlyRefusals, scope: Scope) -> EarlyAnswer | None:
        paths.append(scope["path"])
        return refuse(self, scope)

    monkeypatch.setattr(EarlyRefusals, "__call__", noted)
    return paths


@contextmanager
def flooding(state: ServerState, config: ApiConfig | None = None) -> Iterator["Connection"]:
    with serving(state, config) as client, connected(client) as sock:
        yield Connection(sock)


def connected_to(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)


class Connection:
    """Says bytes, and hears one answer after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._data = sock, b""

    def ask(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        self._sock.sendall(data)
        return self.hear()

    def hear(self) -> tuple[int, dict[str, str], Any]:
        while b"\r\n\r\n" not in self._data:
            self._read()
        top, _, self._data = self._data.partition(b"\r\n\r\n")
        status, *lines = top.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines), "a header that came twice"
        length = int(headers["content-length"])
        while len(self._data) < length:
            self._read()
        body, self._data = self._data[:length], self._data[length:]
        return int(status.split(" ")[1]), headers, json.loads(body)

    def ended(self) -> bool:
        return not self._data and self._sock.recv(1) == b""

    def _read(self) -> None:
        piece = self._sock.recv(65536)
        assert piece, self._data
        self._data += piece


def message(path: str = CHAT_URL, body: bytes = b"{}", *more: str) -> bytes:
    return head(path, len(body), *more) + body


def alike(answer: tuple[int, dict[str, str], Any]) -> tuple[int, dict[str, str], Any]:
    """All but what differs from one answer to the next."""
    status, headers, body = answer
    unlike = {"request_id": "", **body}
    kept = {name: value for name, value in headers.items() if name not in OF_THE_MOMENT}
    return status, kept | {"ids": str(sorted(OF_THE_MOMENT & headers.keys()))}, unlike


@pytest.mark.parametrize("path", sorted(ENGINE_PATHS))
def test_it_is_what_was_said_before(path: str, parsed: list[str]) -> None:
    state = full_house()
    with flooding(state) as connection:
        answers = [connection.ask(message(path)) for _ in range(4)]
    assert parsed == [path]
    ids = [headers["x-request-id"] for _, headers, _ in answers]
    assert len(set(ids)) == 4
    assert {len(one) for one in ids} == {len("req_") + 32}
    for one, (status, headers, body) in zip(ids, answers, strict=True):
        assert status == 429
        assert headers.get("request-id", one) == one
        assert body.pop("request_id", one) == one
    assert all(alike(answer) == alike(answers[0]) for answer in answers)
    assert state.admission.num_rejected == 4


def test_each_is_counted() -> None:
    with serving(full_house()) as client:
        with connected(client) as sock:
            connection = Connection(sock)
            for _ in range(3):
                connection.ask(message())
        metrics = client.get("/metrics").text
    assert f'route="{CHAT_URL}",status="429"}} 3.0' in metrics
    assert 'reason="queue_full"} 3.0' in metrics


def test_another_length_is_the_same_head(parsed: list[str]) -> None:
    with flooding(full_house()) as connection:
        for body in (b"{}", b"{ }", b"[" * 2000, b""):
            assert connection.ask(message(body=body))[0] == 429
    assert len(parsed) == 1


def test_another_connection_has_the_same_head(parsed: list[str]) -> None:
    with serving(full_house()) as client:
        for _ in range(3):
            with connected(client) as sock:
                assert Connection(sock).ask(message())[0] == 429
    assert len(parsed) == 1


def test_nothing_is_kept_of_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand connections with a quarter of a megabyte each would be 256 MB."""
    protocols: set[AnsweringProtocol] = set()
    refuse = AnsweringProtocol.refuse_again

    def noted(self: AnsweringProtocol, data: bytes) -> bool:
        protocols.add(self)
        return refuse(self, data)

    monkeypatch.setattr(AnsweringProtocol, "refuse_again", noted)
    with flooding(full_house()) as connection:
        for _ in range(2):
            connection.ask(message(body=b"x" * 1000))
        assert [one._unparsed for one in protocols] == [b""]


def test_who_closes_is_closed(parsed: list[str]) -> None:
    with serving(full_house()) as client:
        for _ in range(2):
            with connected(client) as sock:
                connection = Connection(sock)
                status, headers, _ = connection.ask(message(CHAT_URL, b"{}", "Connection: close"))
                assert (status, headers["connection"]) == (429, "close")
                assert connection.ended()
    assert len(parsed) == 1


def test_once_there_is_room_it_is_let_in(parsed: list[str]) -> None:
    state = ready_state(fake_engine([*b"yes", EOS], max_num_seqs=1))
    permit = state.admission.admit(1000)
    body = json.dumps(CHAT).encode()
    with flooding(state) as connection:
        assert [connection.ask(message(body=body))[0] for _ in range(2)] == [429, 429]
        permit.release()
        assert connection.ask(message(body=body))[0] == 200
    assert len(parsed) == 2


def test_it_is_told_the_queue_of_its_own_moment() -> None:
    state = ready_state(fake_engine(max_num_seqs=1))
    state.admission.admit(1000)
    with flooding(state) as connection:
        before = connection.ask(message())[2]["error"]["message"]
        state.admission.in_flight += 5
        after = connection.ask(message())[2]["error"]["message"]
    assert "999 requests" in before
    assert "1004 requests" in after


def test_a_drain_and_a_dead_engine_are_told() -> None:
    state = full_house()
    with flooding(state) as connection:
        connection.ask(message())
        state.drain()
        status, _, body = connection.ask(message())
    assert (status, body["error"]["code"]) == (503, "server_draining")
    state = full_house()
    with flooding(state) as connection:
        connection.ask(message())
        assert isinstance(state.engine, FakeEngine)
        state.engine._why_dead = "it died"
        status, _, body = connection.ask(message())
    assert (status, body["error"]["code"]) == (503, "engine_failed")


def test_another_key_is_another_head(parsed: list[str]) -> None:
    config = ApiConfig(api_keys=("secret",))
    with flooding(full_house(config), config) as connection:
        for sent, status in ((KEY, 429), ("Authorization: Bearer wrong!", 401), (KEY, 429)):
            assert connection.ask(message(CHAT_URL, b"{}", sent))[0] == status
        assert connection.ask(message())[0] == 401
        assert connection.ask(message())[0] == 401
    assert len(parsed) == 4, "who has no key is asked for it each time"


def test_a_key_that_is_gone_is_no_key() -> None:
    config = ApiConfig(api_keys=("secret",))
    state = full_house(config)
    with flooding(state, config) as connection:
        assert connection.ask(message(CHAT_URL, b"{}", KEY))[0] == 429
        state.keys.replace(["other"])
        assert connection.ask(message(CHAT_URL, b"{}", KEY))[0] == 401


OTHERS = {
    "chunked": head(CHAT_URL, 0, "Transfer-Encoding: chunked").replace(
        b"Content-Length: 0\r\n", b""
    )
    + b"2\r\n{}\r\n0\r\n\r\n",
    "upgrade": message(CHAT_URL, b"{}", "Connection: Upgrade", "Upgrade: h2c"),
    "an id": message(CHAT_URL, b"{}", "X-Request-Id: mine"),
    "no length": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long head": message(CHAT_URL, b"{}", "X-Long: " + "x" * known_heads.MAX_HEAD_BYTES),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_what_is_not_certain_is_parsed(data: bytes, parsed: list[str]) -> None:
    with serving(full_house()) as client:
        for _ in range(2):
            with connected(client) as sock:
                assert Connection(sock).ask(data)[0] == 429
    assert len(parsed) == 2


CONFIGS = {
    "requests": ApiConfig(requests_per_minute=600),
    "tokens": ApiConfig(tokens_per_minute=600),
    "answers": ApiConfig(concurrent_requests=9),
    "a log": ApiConfig(access_log=True),
    "outside": ApiConfig(is_named_outside=True),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_says_or_leaves_more_is_parsed(config: ApiConfig, parsed: list[str]) -> None:
    with flooding(full_house(config), config) as connection:
        for _ in range(2):
            assert connection.ask(message())[0] == 429
    assert len(parsed) == 2


def test_a_page_of_another_origin_may_read_each(parsed: list[str]) -> None:
    config = ApiConfig(cors_origins=("https://page.example",))
    data = message(CHAT_URL, b"{}", "Origin: https://page.example")
    with flooding(full_house(config), config) as connection:
        for _ in range(2):
            assert connection.ask(data)[1]["access-control-allow-origin"] == "https://page.example"
        assert "access-control-allow-origin" not in connection.ask(message())[1]
        assert "access-control-allow-origin" not in connection.ask(message())[1]
    assert len(parsed) == 3


def test_what_is_traced_is_parsed() -> None:
    scope = post_scope(CHAT_URL)
    for tracer, is_repeated in ((NO_TRACER, True), (NoTracer(), False)):
        refuse = create_app(full_house(), ApiConfig(), tracer).refuse_early
        assert refuse is not None
        answer = refuse(scope)
        assert answer is not None
        assert (answer.repeat is not None) == is_repeated


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> set[GuardedProtocol]:
    """Those of connections on which something came; nobody is held back."""
    found: set[GuardedProtocol] = set()
    receive = GuardedProtocol.data_received

    def noted(self: GuardedProtocol, data: bytes) -> None:
        found.add(self)
        receive(self, data)

    monkeypatch.setattr(GuardedProtocol, "data_received", noted)
    monkeypatch.setattr(HeldBack, "hold", lambda *_: None)
    return found


def on_loop(protocol: GuardedProtocol, call: Callable[[], object]) -> None:
    """Called by the loop of the server, and done."""
    done = Event()
    protocol.loop.call_soon_threadsafe(lambda: (call(), done.set()))
    assert done.wait(100)


def test_who_goes_on_is_kept_and_who_does_not_is_closed(protocols: set[GuardedProtocol]) -> None:
    """The timer of the first answer is not renewed by the next ones, but they count."""
    with live(full_house(), timeout_keep_alive=60) as url, connected_to(url) as sock:
        connection = Connection(sock)
        for _ in range(2):
            connection.ask(message())
        (protocol,) = protocols
        on_loop(protocol, protocol.timeout_keep_alive_handler)
        on_loop(protocol, protocol._look_again)
        assert not protocol.transport.is_closing()
        assert connection.ask(message())[0] == 429

        def a_minute_later() -> None:
            protocol._refused_at -= 61
            protocol.timeout_keep_alive_handler()

        on_loop(protocol, a_minute_later)
        assert connection.ended()


def test_a_timer_that_goes_on_cuts_nothing(protocols: set[GuardedProtocol]) -> None:
    """Who is refused again has more time: no timer is left that ends what is let in later."""
    with live(full_house(), timeout_keep_alive=60) as url, connected_to(url) as sock:
        connection = Connection(sock)
        for _ in range(2):
            connection.ask(message())
        (protocol,) = protocols
        on_loop(protocol, protocol.timeout_keep_alive_handler)
        assert protocol._stalled is None
        assert connection.ask(message())[0] == 429


def test_what_came_before_the_close_is_answered(protocols: set[GuardedProtocol]) -> None:
    with live(full_house(), timeout_keep_alive=60) as url, connected_to(url) as sock:
        connection = Connection(sock)
        connection.ask(message())
        (protocol,) = protocols

        def late() -> None:
            sock.sendall(message())
            protocol.timeout_keep_alive_handler()

        on_loop(protocol, late)
        assert connection.hear()[0] == 429
        assert connection.ask(message())[0] == 429  # and it goes on


def test_who_may_ask_again_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    hold = HeldBack.hold

    def noted(self: HeldBack, transport: asyncio.Transport) -> None:
        held.append(not transport.is_closing())
        hold(self, transport)

    monkeypatch.setattr(HeldBack, "hold", noted)
    state = full_house()
    with flooding(state) as connection:
        for _ in range(3):
            connection.ask(message())
        connection.ask(message(CHAT_URL, b"{}", "Connection: close"))
    assert held == [True] * 3


def test_pieces_and_pipelines_are_parsed(parsed: list[str]) -> None:
    data = message(body=b"{  }")
    with serving(full_house()) as client, connected(client) as sock:
        connection = Connection(sock)
        connection.ask(data)
        assert [connection.ask(data * 2)[0], connection.hear()[0]] == [429, 429]
        assert len(parsed) == 3
        sock.sendall(data[:-1])
        assert connection.ask(data[-1:] + data)[0] == 429
        assert connection.hear()[0] == 429
        assert connection.ask(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
        assert connection.ask(data)[0] == 429


def test_a_body_that_looks_like_a_message_is_a_body(parsed: list[str]) -> None:
    """Read in a chunk of its own, it would be taken for one whose head is known."""
    inner = message(body=b"{}")
    with serving(full_house()) as client, connected(client) as sock:
        connection = Connection(sock)
        connection.ask(inner)
        sock.sendall(head("/tokenize", len(inner)))
        assert connection.ask(inner)[0] == 400
        sock.sendall(head("/v1/completions", len(inner)))
        assert connection.ask(inner)[0] == 429
    assert parsed == [CHAT_URL, "/tokenize", "/v1/completions"]


def test_a_message_behind_a_stream_waits_for_it() -> None:
    state = ready_state(fake_engine([*b"x" * 10, EOS], delay=0.01, max_num_seqs=1))
    stream = message(body=json.dumps(CHAT | {"stream": True}).encode())
    with serving(state) as client, connected(client) as sock:
        permit = state.admission.admit(1000)
        Connection(sock).ask(stream)  # its head is known
        permit.release()
        sock.sendall(stream)
        data = sock.recv(65536)
        state.admission.in_flight += 1000
        sock.sendall(stream)
        while b"rate_limit_exceeded" not in data:
            data += sock.recv(65536)
        state.admission.in_flight -= 1000
    assert data.index(b"[DONE]") < data.index(b"HTTP/1.1 429 ")


def test_who_was_let_in_is_not_taken_for_who_came_behind(parsed: list[str]) -> None:
    """On one connection: the second is refused when the first has ended, whose bytes came alone."""
    state = ready_state(fake_engine([*b"x" * 10, EOS], delay=0.01, max_num_seqs=1))
    stream = message(body=json.dumps(CHAT | {"stream": True}).encode())
    with serving(state) as client, connected(client) as sock:
        sock.sendall(stream)
        data = sock.recv(65536)
        state.admission.in_flight += 1000
        sock.sendall(message("/v1/completions"))
        while b"rate_limit_exceeded" not in data:
            data += sock.recv(65536)
        with connected(client) as other:
            assert Connection(other).ask(stream)[0] == 429
        state.admission.in_flight -= 1000
    assert parsed == [CHAT_URL, "/v1/completions", CHAT_URL]


def test_few_heads_are_kept(monkeypatch: pytest.MonkeyPatch, parsed: list[str]) -> None:
    monkeypatch.setattr(known_heads, "MAX_HEADS", 2)
    with flooding(full_house()) as connection:
        for name in ("a", "b", "c", "b", "c", "a"):
            connection.ask(message(CHAT_URL, b"{}", f"X-Name: {name}"))
    assert len(parsed) == 4


def test_one_server_knows_nothing_of_another(parsed: list[str]) -> None:
    config = ApiConfig(api_keys=("secret",))
    with flooding(full_house()) as one, flooding(full_house(config), config) as other:
        assert one.ask(message())[0] == 429
        assert other.ask(message())[0] == 401
    assert len(parsed) == 2
