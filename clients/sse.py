"""Server-sent events: bytes in, events out, wherever the network cut them.

The format is WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html): a field
per line, lines end in LF, CRLF or CR, an empty line ends the event, a line that starts with a
colon is a comment (servers send them as pings). Text is decoded a line at a time, so a character
that is split over chunks is whole again. The parser never raises on odd bytes; it only refuses an
event without end. It knows no HTTP and no JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from thirdeye.clients.errors import StreamBroken

MAX_EVENT_BYTES = 8 * 2**20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its `data:` lines joined by newlines, and its `event:` name."""

    data: str
    name: str = "message"


class EventParser:
    """Feed it what the socket gives; it yields each event once its empty line is there.

    >>> parser = EventParser()
    >>> list(parser.feed(b"data: Hel")), list(parser.feed(b"lo\\r\\n\\r\\n"))
    ([], [Event(data='Hello', name='message')])
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the line that has no end yet
        self._data: list[str] = []
        self._name = ""
        self._num_bytes = 0  # of the unfinished event
        self._skip_lf = False  # the last line ended in CR: an LF right behind it is the same end
        self._is_first_line = True
        self.num_empty = 0  # lines so far that are no data: comments, blank ones, other fields

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Consume it whole before the next call."""
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        for piece in chunk.splitlines(keepends=True):
            self._count(len(piece))
            self._line += piece
            if piece.endswith((b"\n", b"\r")):
                yield from self._end_line()
        if self._line == b"" and chunk.endswith(b"\r"):
            self._skip_lf = True

    def finish(self) -> Iterator[Event]:
        """The event that the end of the stream left without its empty line, if there is one."""
        if self._line:
            yield from self._end_line()
        yield from self._dispatch()

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_event_bytes:
            raise StreamBroken(
                f"An event of the stream is longer than {self._max_event_bytes} bytes."
            )

    def _end_line(self) -> Iterator[Event]:
        line = bytes(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._is_first_line:
            line = line.removeprefix(BOM)
            self._is_first_line = False
        if line:
            self._take_field(line)
        else:
            yield from self._dispatch()

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.decode("utf-8", errors="replace").partition(":")
        value = value.removeprefix(" ")
        self.num_empty += field != "data"
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif not field and not self._data:
            self._num_bytes = 0  # pings may go on for ever

    def _dispatch(self) -> Iterator[Event]:
        data, name = self._data, self._name
        self._data, self._name, self._num_bytes = [], "", 0
        self.num_empty += not data
        if data:
            yield Event("\n".join(data), name or "message")
