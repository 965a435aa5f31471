"""The event parser: WHATWG's rules by example, and any cut of the bytes against the whole."""

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.clients.errors import StreamBroken
from thirdeye.clients.sse import Event, EventParser


def parse(*chunks: bytes) -> list[Event]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + list(parser.finish())


def oracle(data: bytes) -> list[Event]:
    """The rules written down once more, over the whole text and without any state of chunks."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    values: list[str] = []
    name = ""
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.decode("utf-8", errors="replace").partition(":")
        value = value[1:] if value[:1] == " " else value
        if not line and values:
            events.append(Event("\n".join(values), name or "message"))
        if not line:
            values, name = [], ""
        elif field == "data":
            values.append(value)
        elif field == "event":
            name = value
    return events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_line_ends(end: bytes) -> None:
    lines = [b"data: a", b"data: b", b"", b": ping", b"", b"event: e", b"data:c", b"", b""]
    data = end.join(lines)
    assert parse(data) == [Event("a\nb"), Event("c", "e")]
    assert parse(*(bytes([byte]) for byte in data)) == [Event("a\nb"), Event("c", "e")]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data\n\n", [Event("")]),
        (b"data:  two spaces\n\n", [Event(" two spaces")]),
        (b"data: a:b\n\n", [Event("a:b")]),
        (b"data: a\n\n\n\ndata: b\n\n", [Event("a"), Event("b")]),
        (b"event: only\n\n", []),
        (b"event: lost\n\ndata: a\n\n", [Event("a")]),
        (b"id: 3\nretry: 5\nunknown: x\ndata: a\n\n", [Event("a")]),
        (b": a comment\ndata: a\n: another\ndata: b\n\n", [Event("a\nb")]),
        (b"\xef\xbb\xbfdata: bom\n\n", [Event("bom")]),
        (b"data: \xef\xbb\xbfinside\n\n", [Event("\ufeffinside")]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [Event("a")]),
        (b"data: bad \xff byte\n\n", [Event("bad \ufffd byte")]),
        ("data: one\u2028line\x0b\x85\n\n".encode(), [Event("one\u2028line\x0b\x85")]),
        (b"data: unfinished", [Event("unfinished")]),
        (b"", []),
    ],
)
def test_fields(data: bytes, events: list[Event]) -> None:
    """U+2028 and its kin end no line: Python's str.splitlines would have said otherwise."""
    assert parse(data) == events


def test_an_event_is_there_with_its_empty_line_and_not_later() -> None:
    """A parser that waits for the byte behind the empty line holds every token back by one."""
    for end in (b"\n", b"\r\n", b"\r"):
        parser = EventParser()
        assert list(parser.feed(b"data: a" + end + end)) == [Event("a")]


LINES = st.sampled_from(
    [
        *[b"", b"data: x", b"data:y", b"data", b"event: e", b"event", b": ping", b"data: [DONE]"],
        *[b"\xef\xbb\xbfdata: bom", "data: é🙂".encode(), b"data: \xff\xf0\x9f", b"x:", b":"],
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = (
    st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)
    | st.lists(st.sampled_from([b"data:", b"\r", b"\n", b"x", b"\xef\xbb\xbf"])).map(b"".join)
    | st.binary(max_size=60)
)


@given(STREAMS)
def test_the_whole_equals_the_oracle(data: bytes) -> None:
    assert parse(data) == oracle(data)


@given(STREAMS, st.data())
def test_any_cut_gives_the_same_events(data: bytes, draw: st.DataObject) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    chunks = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
    assert parse(*chunks) == oracle(data)


@given(STREAMS)
def test_byte_by_byte(data: bytes) -> None:
    assert parse(*(bytes([byte]) for byte in data)) == oracle(data)


@pytest.mark.parametrize(
    "line", [b"data: " + b"x" * 200, b"x" * 200, b"data: x\n" * 30, b":" * 200]
)
def test_an_event_without_end_is_refused(line: bytes) -> None:
    """Memory stays bounded, in one piece or in many."""
    with pytest.raises(StreamBroken, match="longer than 100 bytes"):
        list(EventParser(max_event_bytes=100).feed(line))
    parser = EventParser(max_event_bytes=100)
    with pytest.raises(StreamBroken, match="longer than 100 bytes"):
        deque(event for byte in line for event in parser.feed(bytes([byte])))


def test_pings_and_many_events_are_no_event_without_end() -> None:
    """The limit is on one event: a long quiet stream may ping for ever."""
    parser = EventParser(max_event_bytes=100)
    assert list(parser.feed(b": ping\n" * 1000)) == []
    assert len(list(parser.feed(b"data: x\n\n" * 1000))) == 1000
