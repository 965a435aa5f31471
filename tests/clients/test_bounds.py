"""Both clients against a server that means harm: bytes without end, bombs, silence."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from itertools import cycle
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients.stub import Stub, chat_events, chat_json, head
from tests.draws import draws
from thirdeye.clients import AsyncClient, Client, errors
from thirdeye.clients.base_client import refusal_body
from thirdeye.clients.bounds.answer_body import (
    MAX_ANSWER_BYTES,
    MAX_REFUSAL_BYTES,
    MAX_REFUSAL_SECONDS,
    Body,
)
from thirdeye.clients.bounds.bounded_network import MAX_INTERIM, AnswerHeads, body_within
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.types import ChatAnswer

LIMIT = 100_000
FLOOD = [b"a" * 65536] * 40  # 2.6 MB without a Content-Length


def test_an_answer_beyond_the_limit_is_not_read_on(connect: Callable[..., Any], stub: Stub) -> None:
    stub.raw(head(200, "application/json"), *FLOOD)
    client = connect(max_answer_bytes=LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(errors.ThirdeyeError, match="longer than 100,000 bytes"):
            client.chat("Hi", model="tiny")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000, "more was kept than a few reads of the socket"
    assert len(stub.requests) == 1, "a retry would fetch it again"


def test_an_answer_of_just_the_limit_is_read(connect: Callable[..., Any], stub: Stub) -> None:
    body = chat_json("here")
    size = len(json.dumps(body).encode())
    stub.reply(body)
    assert connect(max_answer_bytes=size).chat("Hi", model="tiny").text == "here"
    stub.reply(body)
    with pytest.raises(errors.ThirdeyeError, match="longer"):
        connect(max_answer_bytes=size - 1).chat("Hi", model="tiny")


def test_an_endless_refusal_is_told_by_its_beginning(
    connect: Callable[..., Any], stub: Stub
) -> None:
    stub.raw(head(500, "text/plain"), b"It broke.\n", *FLOOD)
    with pytest.raises(errors.ServerError, match="It broke"):
        connect(max_retries=0).chat("Hi", model="tiny")
    assert sum(map(len, FLOOD)) > MAX_REFUSAL_BYTES


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_compression_is_neither_asked_for_nor_taken(client: Any, stub: Stub, how: str) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))  # 50 KB that stand for 50 MB
    stub.raw(head(200, "application/json", [("content-encoding", "gzip")]), bomb)
    ask = client.chat if how == "whole" else lambda *a, **k: next(client.stream_chat(*a, **k))
    with pytest.raises(errors.ThirdeyeError, match=r"compressed \('gzip'\)"):
        ask("Hi", model="tiny")
    assert stub.requests[0].headers["accept-encoding"] == "identity"


def test_a_stream_that_never_ends_is_broken_off() -> None:
    reader = StreamReader(ChatAnswer, max_bytes=5_000)
    pieces = chat_events("word ")[1] * 100
    with pytest.raises(errors.StreamBroken, match="longer than any answer"):
        list(reader.feed(pieces))
    assert len(reader.answer().text) < 5_000


def test_a_silent_stream_times_out(connect: Callable[..., Any], stub: Stub) -> None:
    stub.stream(30.0, *chat_events("late"))
    with pytest.raises(errors.Timeout, match="silent"):
        next(connect(stream_timeout=0.1).stream_chat("Hi", model="tiny"))


def test_the_default_leaves_room_for_a_look_inside() -> None:
    assert MAX_ANSWER_BYTES >= 32 * 2**20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_body_that_comes_byte_by_byte_is_not_waited_for() -> None:
    """Each byte in time, and together no end: the whole answer is late."""
    clock = Clock()
    body = Body({}, LIMIT, 60.0, clock=clock)
    for _ in range(60):
        clock.now += 1
        body.feed(b" ")
    clock.now += 1
    with pytest.raises(errors.Timeout, match="60 s after its beginning"):
        body.feed(b" ")


def test_a_refusal_that_comes_byte_by_byte_is_told_by_its_beginning() -> None:
    clock = Clock()
    body = Body({}, LIMIT, 10.0, is_cut=True, clock=clock)
    body.feed(b"It broke")
    assert not body.is_full
    clock.now += 11
    body.feed(b".")
    assert body.is_full
    assert body.read() == b"It broke."


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_both_clients_give_bodies_an_end(kind: type[Client | AsyncClient]) -> None:
    response = httpx.Response(200)
    assert kind("http://127.0.0.1:9", timeout=7.0)._body(response).seconds == 7.0
    assert refusal_body(response).seconds == MAX_REFUSAL_SECONDS


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
OK = head(200, "application/json", [("connection", "close")])


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_interim_answers_without_end_are_left(
    connect: Callable[..., Any], stub: Stub, how: str
) -> None:
    """httpx reads over them for ever, each in time."""
    stub.raw(*[HINT * 500] * 2000)
    client = connect(max_retries=0)
    ask = client.chat if how == "whole" else lambda *a, **k: next(client.stream_chat(*a, **k))
    with pytest.raises(errors.ConnectionFailed, match="more than 16 interim answers"):
        ask("Hi", model="tiny")


def test_a_few_interim_answers_are_read_over(client: Any, stub: Stub) -> None:
    body = json.dumps(chat_json("here")).encode()
    stub.raw(HINT * 7, HINT[:20], HINT[20:], OK, body)
    assert client.chat("Hi", model="tiny").text == "here"


def test_a_head_without_end_is_left(connect: Callable[..., Any], stub: Stub) -> None:
    stub.raw(b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 1000)
    with pytest.raises(errors.ConnectionFailed):
        connect(max_retries=0).chat("Hi", model="tiny")


@pytest.mark.parametrize("beside", [b"1;" + b"x" * 400_000, b"0\r\n" + b"X: y\r\n" * 100_000])
def test_what_stands_beside_a_body_is_bounded(
    connect: Callable[..., Any], stub: Stub, beside: bytes
) -> None:
    chunked = head(200, "application/json", [("transfer-encoding", "chunked")])
    stub.raw(chunked, beside)
    with pytest.raises(errors.ThirdeyeError):
        connect(max_retries=0).chat("Hi", model="tiny")


@pytest.mark.parametrize("beside", [b"1;", b"0\r\nX: "])
def test_what_drips_beside_a_stream_is_silence(
    connect: Callable[..., Any], stub: Stub, beside: bytes
) -> None:
    """A byte now and then of a chunk's extension or of a trailer kept a stream for ever."""
    chunked = head(200, "text/event-stream", [("transfer-encoding", "chunked")])
    first = chat_events("word")[1]
    begun = b"%x\r\n%b\r\n" % (len(first), first)
    drips: list[bytes | float] = [0.02, b"x"] * 500
    stub.raw(chunked, begun, beside, *drips)
    stream = connect(stream_timeout=0.3, max_retries=0).stream_chat("Hi", model="tiny")
    assert next(stream).text == "word"
    with pytest.raises(errors.Timeout, match="silent"):
        list(stream)
    assert stub.requests[0].client_left.wait(60)


def heads(clock: Clock) -> AnswerHeads:
    found = AnswerHeads(clock)
    found.sent()
    return found


def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    """It may be late, and then it is there at once."""
    clock = Clock()
    found = heads(clock)
    clock.now += 500
    for byte in OK[:10]:
        found.check_time()
        found.received(bytes([byte]))
        clock.now += 1
    clock.now += 0.5
    with pytest.raises(httpcore.ReadTimeout):
        found.check_time()


def test_trailers_that_come_byte_by_byte_are_not_waited_for() -> None:
    """Where the body has an end, so have they; a stream goes on as long as it speaks."""
    clock = Clock()
    found = heads(clock)
    found.received(HINT + OK + b"0\r\nX:")
    clock.now += 1000
    found.check_time()
    with body_within(60.0), pytest.raises(httpcore.ReadTimeout):
        found.check_time()
    found.sent()  # the next request over the same connection
    with body_within(60.0):
        found.check_time()


@given(
    interim=st.lists(st.sampled_from([HINT, HINT.replace(b"\r", b"")]), max_size=20),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=10),
)
@draws(50, 500)
def test_heads_are_counted_however_they_are_cut(interim: list[bytes], sizes: list[int]) -> None:
    """And nothing of a body is read as a head."""
    raw = b"".join(interim) + OK + HINT * 50
    found, cuts, at = heads(Clock()), cycle(sizes), 0
    try:
        while at < len(raw):
            size = next(cuts)
            found.received(raw[at : at + size])
            at += size
    except httpcore.RemoteProtocolError:
        assert len(interim) > MAX_INTERIM
    else:
        assert len(interim) <= MAX_INTERIM
