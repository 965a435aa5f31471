"""Streams that go on and bring no token: pings, blank lines, fields and chunks with nothing in
them. Each event is in time, and together they have no end."""

import json
import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients.stub import DONE, Stub, chat_events, event, stream_parts
from tests.clients.test_bounds import LIMIT, Clock
from tests.clients.test_shell import run
from tests.draws import draws
from thirdeye.clients import errors
from thirdeye.clients.bounds.empty_events import MAX_EMPTY_EVENTS, MAX_EMPTY_SECONDS, EmptyEvents
from thirdeye.clients.loadtest.driver.reading import Reading
from thirdeye.clients.loadtest.driver.wire import Connection, WireError
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.types import ChatAnswer

CHUNK = {"id": "c", "model": "m", "object": "chat.completion.chunk"}


def chunk(delta: dict[str, Any], **more: Any) -> bytes:
    return event(CHUNK | {"choices": [{"index": 0, "delta": delta, "finish_reason": None} | more]})


EMPTY = {
    "pings": b": ping\n\n",
    "comments without a line end between": b":\n",
    "blank lines": b"\n",
    "lines of CR": b"\r",
    "names of events": b"event: message\n\n",
    "fields that nobody knows": b"retry: 5\nid: 7\n\n",
    "roles": chunk({"role": "assistant"}),
    "empty texts": chunk({"content": ""}),
    "nulls": chunk({"content": None, "tool_calls": None, "reasoning_content": None}),
    "no choices": event(CHUNK | {"choices": []}),
    "nothing": event({}),
    "how far the prompt is": event(CHUNK | {"choices": [], "prompt_progress": {"processed": 5}}),
}
FULL = {
    "a text": chunk({"content": "a"}),
    "a blank": chunk({"content": " "}),
    "a thought": chunk({"reasoning_content": "a"}),
    "a call": chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
    "another choice's text": event(CHUNK | {"choices": [{"index": 3, "delta": {"content": "a"}}]}),
    "a completion's text": event(CHUNK | {"choices": [{"index": 0, "text": "a"}]}),
    "ids of hidden tokens": chunk({}, token_ids=[5]),
}


def read(reader: StreamReader[ChatAnswer], pieces: list[bytes]) -> None:
    for piece in pieces:
        list(reader.feed(piece))


def load(reading: Reading, pieces: list[bytes]) -> None:
    for piece in pieces:
        reading.body(piece, 1.0)


@pytest.mark.parametrize("nothing", EMPTY.values(), ids=EMPTY)
def test_events_that_bring_nothing_are_counted(nothing: bytes) -> None:
    reader = StreamReader(ChatAnswer, empty=EmptyEvents(limit=1000))
    list(reader.feed(chat_events("word")[1]))
    with pytest.raises(errors.StreamBroken, match="1,000 events without a token"):
        read(reader, [nothing * 50] * 60)
    assert reader.answer().text == "word"


@pytest.mark.parametrize("something", FULL.values(), ids=FULL)
def test_a_token_begins_the_count_anew(something: bytes) -> None:
    reader = StreamReader(ChatAnswer, empty=EmptyEvents(limit=100))
    for _ in range(50):
        list(reader.feed(EMPTY["pings"] * 20 + something))


@given(
    st.lists(st.sampled_from([*EMPTY.values()]), min_size=200, max_size=300),
    st.lists(st.integers(1, 4000), max_size=20),
)
@draws(20, 100)
def test_any_mixture_however_it_is_cut(parts: list[bytes], sizes: list[int]) -> None:
    data, places = b"".join(parts), list(accumulate(sizes or [64], initial=0))
    pieces = [data[a:b] for a, b in pairwise([*places, len(data)]) if a < len(data)]
    reader = StreamReader(ChatAnswer, empty=EmptyEvents(limit=150))
    with pytest.raises(errors.StreamBroken, match="150 events without a token"):
        read(reader, pieces)


def test_pings_are_not_waited_for_for_ever() -> None:
    clock = Clock()
    reader = StreamReader(ChatAnswer, empty=EmptyEvents(seconds=60.0, clock=clock))
    for _ in range(3):
        for _ in range(59):
            clock.now += 1
            assert not list(reader.feed(b": ping\n\n"))
        list(reader.feed(chat_events("word")[1]))
    clock.now += 61
    with pytest.raises(errors.Timeout, match=r"no token for 60 s.*'token_timeout'"):
        list(reader.feed(b": ping\n\n"))


def test_a_token_that_is_late_is_taken() -> None:
    clock = Clock()
    reader = StreamReader(ChatAnswer, empty=EmptyEvents(seconds=60.0, clock=clock))
    clock.now += 1000
    assert [chunk.text for chunk in reader.feed(chat_events("late")[1])] == ["late"]


def test_what_an_honest_server_sends_is_far_from_it() -> None:
    """A ping in 15 s, as ours, or two a second, and an hour for the prompt."""
    assert MAX_EMPTY_SECONDS >= 3600
    assert MAX_EMPTY_EVENTS >= 2 * MAX_EMPTY_SECONDS


def test_both_clients_leave(connect: Callable[..., Any], stub: Stub) -> None:
    flood = EMPTY["blank lines"] * (MAX_EMPTY_EVENTS // 4)
    stub.stream(*[flood] * 6, chunked=False, whole=False)
    stream = connect(max_retries=0).stream_chat("Hi", model="tiny")
    with pytest.raises(errors.StreamBroken, match="100,000 events without a token"):
        for _ in stream:
            pass


def test_the_time_is_the_callers_to_choose(connect: Callable[..., Any], stub: Stub) -> None:
    part: list[Any] = [b": ping\n\n", 0.05]
    stub.stream(*part * 200)
    with pytest.raises(errors.Timeout, match="token_timeout"):
        next(connect(token_timeout=0.2, max_retries=0).stream_chat("Hi", model="tiny"))


def answered(reading: Reading) -> Connection:
    connection = Connection(time.monotonic)
    connection._parser = httptools.HttpResponseParser(connection)
    connection._headers, connection._sink = {}, reading
    connection._is_interim = False
    connection._num_interim = connection._num_header_bytes = 0
    return connection


@pytest.mark.parametrize("nothing", EMPTY.values(), ids=EMPTY)
def test_the_load_tester_leaves(nothing: bytes) -> None:
    reading = Reading(EmptyEvents(limit=1000))
    reading.head(200, {})
    reading.body(b"".join(chat_events("a")[:2]), 0.0)
    with pytest.raises(WireError, match="1,000 events without a token"):
        load(reading, [nothing * 50] * 60)
    assert reading.failure == "stream"


@pytest.mark.parametrize(
    ("status", "piece"),
    [(200, chunk({"content": "a" * 60_000})), (500, b"a" * 60_000), (200, b"data: {nonsense\n\n")],
)
def test_the_load_tester_reads_no_answer_without_end(status: int, piece: bytes) -> None:
    """Nor does it keep one; what is no stream is left at once."""
    reading = Reading(max_bytes=LIMIT)
    reading.head(status, {})
    with pytest.raises(WireError, match=r"longer than|no stream"):
        load(reading, [piece] * 3)


def test_the_load_testers_connection_ends_with_it() -> None:
    """What a sink raises comes out of the parser as the answer's end."""
    (head, *_), flood = stream_parts(chunked=False), EMPTY["blank lines"] * 150_000
    connection = answered(Reading())
    connection._parser.feed_data(bytes(head))
    with pytest.raises(httptools.HttpParserCallbackError) as found:
        connection._parser.feed_data(flood)
    assert "without a token" in str(found.value.__context__)


@pytest.mark.parametrize("name", ["pings", "blank lines", "roles", "names of events"])
def test_the_shell_leaves(stub: Stub, name: str) -> None:
    stub.stream(*[EMPTY[name] * 100] * 30, *chat_events("late"), DONE, chunked=False)
    done = run(stub.url, "chat.sh", "-m", "tiny", "Hi", max_empty="200")
    assert done.returncode == 1
    assert b"200 lines without a token" in done.stderr
    assert not done.stdout


def test_the_shell_does_not_wait_for_ever_for_a_token(stub: Stub) -> None:
    part: list[Any] = [b": ping\n\n", 0.3]
    stub.stream(*part * 100, chunked=False)
    done = run(stub.url, "chat.sh", "-m", "tiny", "Hi", max_wait="0")
    assert done.returncode == 1
    assert b"no token for 0 s" in done.stderr


def test_the_shell_counts_anew_after_a_token(stub: Stub) -> None:
    words = [EMPTY["pings"] * 60 + json_event for json_event in chat_events("one", " two")[1:3]]
    stub.stream(*words, DONE, chunked=False)
    done = run(stub.url, "chat.sh", "-m", "tiny", "Hi", max_empty="150")
    assert (done.returncode, done.stdout) == (0, b"one two\n")
    assert json.loads(stub.requests[0].raw)["stream"]


def test_the_shells_clock_goes_on_behind_many_lines(stub: Stub) -> None:
    part: list[Any] = [b": ping\n" * 10, 0.3]
    stub.stream(EMPTY["blank lines"] * 110, *part * 40, DONE, chunked=False)
    done = run(stub.url, "chat.sh", "-m", "tiny", "Hi", max_wait="1")
    assert done.returncode == 1
    assert b"no token for 1 s" in done.stderr
