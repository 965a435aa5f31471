"""The reader of answers: however the network cuts them, and whatever is in them."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.clients.stub import DONE, chat_events, completion_events, event
from thirdeye.clients.loadtest.driver.reading import Reading
from thirdeye.clients.loadtest.driver.wire import Connection, WireError


class Recorder(Reading):
    """A reading that keeps the bytes, too."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = b""

    def body(self, data: bytes, now: float) -> None:
        self.bytes += data
        super().body(data, now)


def read(parts: list[bytes]) -> Reading:
    reading = Reading()
    reading.head(200, {})
    with suppress(WireError):  # `failure` says it
        for number, part in enumerate(parts):
            reading.body(part, float(number))
    reading.finish()
    return reading


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@settings(deadline=None)
@given(
    words=st.lists(st.text(min_size=1), max_size=5),
    places=st.lists(st.integers(0, 5000), max_size=20),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_cut_gives_the_same_answer(
    words: list[str], places: list[int], line_end: bytes
) -> None:
    whole = b"".join(chat_events(*words)).replace(b"\n", line_end)
    reading = read(cut(whole, places))
    assert (reading.failure, reading.texts) == (None, words)
    assert len(reading.text_times) == len(words), "role, finish and usage are no text"
    assert reading.num_events == len(words) + 3
    assert reading.usage is not None
    assert (reading.usage.completion_tokens, reading.cached_tokens) == (3, 2)


def test_texts_are_stamped_when_they_come() -> None:
    events = chat_events("a", "b")
    reading = read([events[0], events[1] + events[2], *events[3:]])
    assert reading.text_times == [1.0, 1.0]
    assert reading.ended_at == 4.0


def test_completions_and_thoughts_are_text() -> None:
    assert read([*completion_events("a", "b")]).texts == ["a", "b"]
    thought = event({"choices": [{"delta": {"reasoning_content": "Hm."}}]})
    assert read([thought, DONE]).texts == ["Hm."]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        chat_events("a")[:-1],
        [event({"error": "no"}), DONE],
        [b"data: {nonsense\n\n", DONE],
        [b"data: [1]\n\n", DONE],
        [event({"choices": "none"}), DONE],
        [event({"choices": [{"delta": {"content": 5}}]}), DONE],
    ],
)
def test_what_is_no_whole_stream_is_a_failure(parts: list[bytes]) -> None:
    assert read(parts).failure == "stream"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_garbage_is_a_failure(parts: list[bytes]) -> None:
    assume(b"[DONE]" not in b"".join(parts))  # hypothesis tries words of the code that it tests
    assert read(parts).failure == "stream"


def test_a_refusal_is_named_by_its_status() -> None:
    reading = Reading()
    reading.head(429, {"retry-after": "7"})
    reading.body(json.dumps({"error": {"message": "Full."}}).encode(), 0.0)
    error = reading.finish()
    assert error is not None
    assert (reading.failure, error.message, error.retry_after) == ("429", "Full.", 7.0)


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.is_aborted = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True


def answer_over(connection: Any, parts: list[bytes]) -> Recorder:
    """Feeds a connection by hand: no loop, no socket."""
    import asyncio

    async def main() -> Recorder:
        recorder = Recorder()
        connection._transport = Wire()
        asking = asyncio.create_task(connection.exchange(b"POST", recorder))
        await asyncio.sleep(0)
        for part in parts:
            if part:
                connection.data_received(part)
        connection.connection_lost(None)
        await asking
        return recorder

    return asyncio.run(main())


@settings(deadline=None)
@given(
    bodies=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 500), max_size=10),
    is_chunked=st.booleans(),
)
def test_bodies_are_the_same_however_they_are_framed_and_cut(
    bodies: list[bytes], places: list[int], is_chunked: bool
) -> None:
    whole = b"".join(bodies)
    if is_chunked:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(body), body) for body in bodies) + b"0\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    else:
        framed, head = whole, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole)
    parts = cut(head + framed, places)
    assert answer_over(Connection(lambda: 0.0), parts).bytes == whole


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"nonsense\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "broke in mid-answer"),
        (b"", "without an answer"),
    ],
)
def test_what_is_no_answer(answer: bytes, message: str) -> None:
    with pytest.raises(Exception, match=message):
        answer_over(Connection(lambda: 0.0), [answer])


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_interim_answers_are_read_over() -> None:
    """Each was taken for the answer, and the answer for bytes that nobody asked for."""
    for places in ([], [10], [len(HINT)], [len(HINT) * 3 + 5]):
        recorder = answer_over(Connection(lambda: 0.0), cut(HINT * 3 + WHOLE, places))
        assert recorder.bytes == b"ok"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (HINT * 100 + WHOLE, "more than 16 interim answers"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "more than 131,072 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
            "more than 131,072 bytes",
        ),
    ],
)
def test_what_stands_in_front_of_a_body_and_behind_it_is_bounded(
    answer: bytes, message: str
) -> None:
    connection = Connection(lambda: 0.0)
    with pytest.raises(WireError, match=message):
        answer_over(connection, cut(answer, [50_000]))
    assert connection.is_closing
