"""What a full house says to a head alone, with no task and no layer, is what the layers would have
said; and it leaves the same behind."""

import gc
import json
import logging
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.api.admission.test_early_refusal import ask as ask_layers
from tests.api.admission.test_early_refusal import full_house
from tests.api.support import CHAT, EOS, eventually, fake_engine, live, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.gate import ENGINE_PATHS, GateMiddleware
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.transport.connection_guard import GuardedProtocol

CHAT_URL = "/v1/chat/completions"
KEY = {"Authorization": "Bearer secret"}
OF_THE_MOMENT = {"date", "x-request-id", "request-id"}
OF_THE_TRANSPORT = {"connection", "server"}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths for which a layer was called."""
    paths: list[str] = []
    call = GateMiddleware.__call__

    async def counted(self: GateMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(GateMiddleware, "__call__", counted)
    return paths


@contextmanager
def serving(state: ServerState, config: ApiConfig | None = None) -> Iterator[httpx.Client]:
    with live(state, config) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def said(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """All but what differs from one answer to the next."""
    body = answer.json()
    body.pop("request_id", None)
    unlike = OF_THE_MOMENT | OF_THE_TRANSPORT
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in unlike}, body


@pytest.mark.parametrize("path", sorted(ENGINE_PATHS))
def test_it_is_what_the_layers_say(path: str, called: list[str]) -> None:
    with serving(full_house()) as client:
        answer = client.post(path, content=b"{", headers={"x-request-id": "mine"})
        assert called == []
        metrics = client.get("/metrics").text
    slow, told = ask_layers(full_house(), path=path, headers={"x-request-id": "mine"})
    assert said(answer) == said(slow)
    assert answer.status_code == 429
    assert answer.headers["x-request-id"] == slow.headers["x-request-id"] == "mine"
    assert answer.headers.get("request-id") == slow.headers.get("request-id")
    for line in (f'route="{path}",status="429"', 'reason="queue_full"} 1.0'):
        assert line in metrics
        assert line in told


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer wrong"}])
def test_the_key_comes_first(sent: dict[str, str], called: list[str]) -> None:
    config = ApiConfig(api_keys=("secret",))
    with serving(full_house(config), config) as client:
        answer = client.post(CHAT_URL, json=CHAT, headers=sent)
        assert client.post(CHAT_URL, json=CHAT, headers=KEY).status_code == 429
    assert called == []
    slow, _ = ask_layers(full_house(config), config, headers=sent)
    assert said(answer) == said(slow)
    assert answer.status_code == 401


def test_the_host_comes_first(called: list[str]) -> None:
    config = ApiConfig(allowed_hosts=("localhost", "127.0.0.1"))
    with serving(full_house(config), config) as client:
        answer = client.post(CHAT_URL, json=CHAT, headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert called == []


def test_a_key_hears_what_it_has_left(called: list[str]) -> None:
    config = ApiConfig(api_keys=("secret",), requests_per_minute=60, tokens_per_minute=600)
    with serving(full_house(config), config) as client:
        answer = client.post(CHAT_URL, json=CHAT, headers=KEY)
    assert called == []
    slow, _ = ask_layers(full_house(config), config, headers=KEY)
    assert said(answer) == said(slow)
    assert answer.headers["x-ratelimit-remaining-requests"] == "60"


def test_a_page_of_another_origin_may_read_it(called: list[str]) -> None:
    config = ApiConfig(cors_origins=("https://page.example",))
    headers = {"Origin": "https://page.example"}
    with serving(full_house(config), config) as client:
        answer = client.post(CHAT_URL, json=CHAT, headers=headers)
        assert client.post(CHAT_URL, json=CHAT).status_code == 429
    assert answer.status_code == 429
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert called == [CHAT_URL]


def test_what_is_asked_of_no_engine_is_answered(called: list[str]) -> None:
    with serving(full_house()) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get(CHAT_URL).status_code == 405
        answer = client.post("/tokenize", json={"model": "tiny", "prompt": "x"})
        assert answer.status_code == 200
    assert len(called) == 3


def test_where_there_is_room_nobody_is_refused(called: list[str]) -> None:
    with serving(ready_state(fake_engine())) as client:
        assert client.post(CHAT_URL, json=CHAT).status_code == 200
    assert called == [CHAT_URL]


def test_it_leaves_a_line_in_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    config = ApiConfig(api_keys=("secret",), access_log=True)
    caplog.set_level(logging.INFO, "thirdeye.access")
    with serving(full_house(config), config) as client:
        client.post(CHAT_URL, json=CHAT, headers=KEY)
        eventually(lambda: len(caplog.records) == 1)
    line = json.loads(caplog.records[0].getMessage().partition(" ")[2])
    assert line | {"id": "", "ms": 0} == {
        "id": "", "key": line["key"], "client": "127.0.0.1", "method": "POST", "path": CHAT_URL,
        "status": 429, "ms": 0,
    }  # fmt: skip


def test_a_client_behind_a_proxy_is_named_in_the_access_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = ApiConfig(access_log=True)
    caplog.set_level(logging.INFO, "thirdeye.access")
    with serving(full_house(config), config) as client:
        client.post(CHAT_URL, json=CHAT, headers={"X-Forwarded-For": "203.0.113.7"})
        eventually(lambda: len(caplog.records) == 1)
    assert '"client": "203.0.113.7"' in caplog.records[0].getMessage()


def head(path: str, num_bytes: int, *more: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more)
    return "\r\n".join((*lines, f"Content-Length: {num_bytes}", "", "")).encode()


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=60) as found:
        yield found


def test_a_connection_is_kept_and_goes_on(called: list[str]) -> None:
    with serving(full_house()) as client, connected(client) as connection:
        for _ in range(3):
            for piece in (head(CHAT_URL, 4)[:20], head(CHAT_URL, 4)[20:], b"{  ", b"}"):
                connection.sendall(piece)
            assert read_until(connection, b"rate_limit_exceeded").startswith(b"HTTP/1.1 429 ")
        assert called == []
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_until(connection, b'"ok"').startswith(b"HTTP/1.1 200 ")


def test_a_pipeline_keeps_its_order() -> None:
    """The second waits, whole, until the first has been answered; the third comes with it."""
    state = ready_state(fake_engine([*b"x" * 10, EOS], delay=0.01, max_num_seqs=1))
    stream = json.dumps(CHAT | {"stream": True}).encode()
    with serving(state) as client, connected(client) as connection:
        connection.sendall(head(CHAT_URL, len(stream)) + stream)
        data = read_until(connection, b"data: ")
        permit = state.admission.admit(4)  # as many as may wait
        connection.sendall((head(CHAT_URL, len(stream)) + stream) * 2)
        while data.count(b"rate_limit_exceeded") < 2:
            data += connection.recv(65536)
        permit.release()
    assert data.index(b"[DONE]") < data.index(b"HTTP/1.1 429 ")
    assert data.count(b"HTTP/1.1 ") == 3


def test_a_body_that_is_longer_than_any_may_be_is_told_so_far() -> None:
    config = ApiConfig(max_body_bytes=1000)
    with serving(full_house(config), config) as client, connected(client) as connection:
        connection.sendall(head(CHAT_URL, 1_000_000) + b" " * 1001)
        assert read_until(connection, b"rate_limit_exceeded").startswith(b"HTTP/1.1 429 ")


def test_who_waits_to_be_asked_for_a_body_goes_the_long_way(called: list[str]) -> None:
    with serving(full_house()) as client, connected(client) as connection:
        connection.sendall(head(CHAT_URL, 2, "Expect: 100-continue"))
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert b"HTTP/1.1 429 " in read_until(connection, b"rate_limit_exceeded")
    assert called == [CHAT_URL]


def test_who_leaves_with_half_a_body_is_counted_as_gone(called: list[str]) -> None:
    with serving(full_house()) as client:
        with connected(client) as connection:
            connection.sendall(head(CHAT_URL, 1000) + b"{")
        eventually(lambda: f'route="{CHAT_URL}",status="0"' in client.get("/metrics").text)
    assert CHAT_URL not in called


def test_a_bug_in_it_is_logged_and_the_layers_answer(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = full_house()
    monkeypatch.setattr(state, "is_full", lambda: 1 / 0)
    with serving(state) as client:
        assert client.post(CHAT_URL, json=CHAT).status_code == 429
    assert "bug in an early refusal" in caplog.text


def test_an_ended_connection_is_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to look for it: what it held is free at once."""
    made: list[weakref.ref[RequestResponseCycle]] = []
    begin = GuardedProtocol._start_asgi_task

    def noted(self: GuardedProtocol, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        made.append(weakref.ref(cycle))
        begin(self, cycle, app)

    monkeypatch.setattr(GuardedProtocol, "_start_asgi_task", noted)
    state = ready_state(fake_engine(max_num_seqs=1))
    with serving(state) as client:
        gc.disable()
        try:
            closing = {"Connection": "close"}
            assert client.post(CHAT_URL, content=b"{", headers=closing).status_code == 400
            state.admission.admit(1000)
            assert client.post(CHAT_URL, content=b"{", headers=closing).status_code == 429
            eventually(lambda: [one() for one in made] == [None] * 2)
        finally:
            gc.enable()
