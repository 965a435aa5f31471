"""Straight to the socket or through the buffer: the same bytes, in the same order."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from tests.api.support import (
    CHAT,
    COMPLETION,
    EOS,
    VOCAB_SIZE,
    app_serving,
    eventually,
    fake_engine,
    live,
    post_scope,
    ready_state,
)
from tests.draws import draws
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.api.anthropic.events import MessagesFormat
from thirdeye.server.api.generation.choices import Deliver, Generation
from thirdeye.server.api.generation.streamed_answer import StreamedAnswer
from thirdeye.server.asgi_extension import DIRECT_WRITE
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.text_stream import TextOptions
from thirdeye.server.transport.connection_guard import GuardedProtocol

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
VARYING = re.compile(
    rb'"(id|created|created_at|completed_at)":("[^"]*"|\d+)|"timings":\{[^}]*\}|"(item|response|message)_id":"[^"]*"'
)


class Client:
    """An ASGI client. With `doors` it has a wire, open or closed as they say, time after time.
    What is sent to it by ASGI takes `lag` seconds to arrive.
    """

    def __init__(
        self, path: str, body: dict[str, Any], doors: list[bool] | None, lag: float = 0.0
    ) -> None:
        self._lag = lag
        self._body = json.dumps(body).encode()
        self._doors: Iterator[bool] = iter(doors or [])
        self._has_begun = False
        self.body = b""
        self.num_pushed = 0
        self.scope = post_scope(path) if doors is None else post_scope(path, **{DIRECT_WRITE: self})

    @property
    def is_open(self) -> bool:
        return self._has_begun and next(self._doors, True)

    def write(self, body: bytes) -> None:
        self.num_pushed += 1
        self.body += body

    async def receive(self) -> Message:
        if self._body:
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        await asyncio.sleep(self._lag)
        self._has_begun = True
        self.body += message.get("body", b"")


def asked(
    path: str,
    body: dict[str, Any],
    engine: FakeEngine,
    doors: list[bool] | None = None,
    lag: float = 0.0,
) -> Client:
    client = Client(path, body | {"stream": True}, doors, lag)
    with app_serving(ready_state(engine)) as app:
        asyncio.run(app(client.scope, client.receive, client.send))
    return client


def plain(body: bytes) -> bytes:
    return VARYING.sub(b"", body)


@draws(10, 40)
@given(
    text=st.text(max_size=12),
    junk=st.lists(st.integers(0, 258), max_size=4),
    doors=st.lists(st.booleans(), max_size=10),
    tokens_per_step=st.integers(1, 5),
    delay=st.sampled_from([0.0, 0.0001]),
    lag=st.sampled_from([0.0, 0.002]),
    is_chat=st.booleans(),
    fields=st.sampled_from(
        [
            {},
            {"stream_options": {"include_usage": True}},
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
            {"logprobs": True},
            {"return_token_ids": True},
            {"stop": ["ab", "é"]},
            {"skip_special_tokens": False},
            {"max_tokens": 3},
        ]
    ),
)
def test_bytes_do_not_depend_on_the_way(
    text: str,
    junk: list[int],
    doors: list[bool],
    tokens_per_step: int,
    delay: float,
    lag: float,
    is_chat: bool,
    fields: dict[str, Any],
) -> None:
    """Any text, broken bytes too, in any steps, over a wire that opens and closes at any time."""
    token_ids = [*text.encode(), *junk, EOS]
    path, body = (CHAT_URL, CHAT) if is_chat else (TEXT_URL, COMPLETION)
    if "logprobs" in fields and not is_chat:
        fields = {"logprobs": 1}

    def engine() -> FakeEngine:
        return fake_engine(token_ids, tokens_per_step=tokens_per_step, delay=delay)

    usual = asked(path, body | fields, engine())
    pushed = asked(path, body | fields, engine(), doors, lag)
    assert plain(pushed.body) == plain(usual.body)
    assert pushed.body.count(b"data: [DONE]\n\n") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT_URL, CHAT),
        (TEXT_URL, COMPLETION | {"max_tokens": 50}),
        ("/v1/responses", {"model": "tiny", "input": "Hi"}),
        ("/v1/messages", {"model": "tiny", "max_tokens": 50} | CHAT),
    ],
)
def test_most_tokens_of_every_dialect_go_straight_to_the_socket(
    path: str, body: dict[str, Any]
) -> None:
    token_ids = [*b"A sentence of ordinary length.", EOS]
    usual = asked(path, body, fake_engine(token_ids, delay=0.001))
    pushed = asked(path, body, fake_engine(token_ids, delay=0.001), [])
    assert plain(pushed.body) == plain(usual.body)
    assert pushed.num_pushed >= len(token_ids) - 3
    assert usual.num_pushed == 0


def test_samples_are_pushed_each_in_its_order() -> None:
    """How several choices are mixed is chance; each by itself is not."""

    def texts(client: Client) -> dict[int, str]:
        found: dict[int, str] = {}
        for line in client.body.split(b"\n\n")[:-2]:
            for choice in json.loads(line.removeprefix(b"data: "))["choices"]:
                found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
        return found

    client = asked(
        TEXT_URL, COMPLETION | {"n": 3}, fake_engine([*b"abcdefgh", EOS], delay=0.001), []
    )
    assert texts(client) == dict.fromkeys(range(3), "abcdefgh")
    assert client.num_pushed


def test_a_failure_behind_pushed_tokens_is_the_last_thing_said() -> None:
    engine = fake_engine([*b"abcdefgh"], error_after=5, error="Out of memory.", delay=0.001)
    client = asked(TEXT_URL, COMPLETION, engine, [])
    *sent, error, done, _ = client.body.split(b"\n\n")
    assert b"".join(re.findall(rb'"text":"(.)"', b"".join(sent))) == b"abcde"
    assert b"Out of memory." in error
    assert done == b"data: [DONE]"


def test_a_bug_at_the_socket_ends_the_stream_as_any_other_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Client, body: bytes) -> None:
        raise ZeroDivisionError(f"a secret of {len(body)} bytes")

    monkeypatch.setattr(Client, "write", broken)
    engine = fake_engine([*b"abcdefgh", EOS], delay=0.001)
    client = asked(TEXT_URL, COMPLETION, engine, [])
    *_, error, done, _ = client.body.split(b"\n\n")
    assert b"internal_error" in error
    assert b"secret" not in error
    assert done == b"data: [DONE]"
    assert engine.stats().num_requests_running == 0
    assert "ZeroDivisionError" in caplog.text


def test_what_comes_while_the_sender_is_cancelled_is_not_lost() -> None:
    """The time for a first event is over in the moment in which it comes."""

    async def main() -> None:
        delivers: list[Deliver] = []

        async def run(deliver: Deliver) -> None:
            delivers.append(deliver)
            await asyncio.Event().wait()

        generation = Generation("id_1", 0, "tiny", [[1]], n=1, requests=[], options=TextOptions())
        tally = generation.tally()
        answer = StreamedAnswer(run, MessagesFormat(generation, tally), tally, writer=None)
        waiting = asyncio.create_task(answer.begun(0))
        while not delivers:
            await asyncio.sleep(0)
        waiting.cancel()
        delivers[0](0, TextEvent("Hi"))
        assert b"Hi" in await anext(answer.bodies())
        await answer.close()

    asyncio.run(main())


def test_a_reader_that_stops_has_a_bounded_buffer_and_loses_nothing() -> None:
    """Its socket takes no more, so its frames wait in the buffer and go out together later."""
    num_tokens, waiting = 3000, []

    class Watched(GuardedProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            small = transport.get_extra_info("socket")
            small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            super().connection_made(transport)

        def pause_writing(self) -> None:
            waiting.append(self.transport.get_write_buffer_size())
            super().pause_writing()

    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=4096)
    engine = FakeEngine([ord("x")] * num_tokens, info=info)
    body = json.dumps(COMPLETION | {"max_tokens": num_tokens, "stream": True}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with live(ready_state(engine, max_model_len=4096), http=Watched) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
            connection.sendall(head.encode() + body)
            eventually(lambda: bool(engine.requests), 10)
            eventually(lambda: engine.stats().num_requests_running == 0, 30)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert waiting, "the client read too fast for this test"
    assert waiting[0] < 128 * 1024, "while the engine ran; what comes later is the one write"
    assert answer.count(b'"text":"x"') == num_tokens
    assert answer.count(b"data: [DONE]") == 1
    chunk_sizes = [int(size, 16) for size in re.findall(rb"\r\n([0-9a-f]+)\r\ndata: ", answer)]
    assert max(chunk_sizes) > 100 * min(chunk_sizes), "what waited came in one write"
