"""A stream as it is read: bytes in, chunks out, and the whole answer at the end.

The wire format is OpenAI's: each event is one JSON chunk, an event with a true `error` is a
failure, and `data: [DONE]` is the end. A stream that stops without it was cut, however cleanly
the connection closed. No socket here: the client hands over what it receives.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from thirdeye.clients.bounds.answer_body import MAX_STREAM_BYTES
from thirdeye.clients.bounds.empty_events import EmptyEvents, brings_token
from thirdeye.clients.errors import StreamBroken, error_from
from thirdeye.clients.sse import Event, EventParser
from thirdeye.clients.types import Answer, Chunk, Usage

DONE = "[DONE]"

A = TypeVar("A", bound=Answer)
NewPart = Callable[[dict[str, Any]], dict[str, Any] | None]


class StreamReader(Generic[A]):
    """Reads one stream. Feed it until `done`; if the bytes end before that, `finish` says so."""

    def __init__(
        self,
        answer_type: type[A],
        max_bytes: int = MAX_STREAM_BYTES,
        new_part: NewPart | None = None,
        empty: EmptyEvents | None = None,
    ) -> None:
        """`new_part` is what to read of an event, None: nothing; without it all is. `empty` bounds
        what brings no token."""
        self._new_part = new_part
        self._answer_type = answer_type
        self._parser = EventParser()
        self._empty = empty or EmptyEvents()
        self._bytes_left = max_bytes  # pings too: an honest server's fill it in ten years
        self._texts: list[str] = []  # of choice 0
        self._last = Chunk()
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self.done = False

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that `data` completes. Consume it whole before the next call.

        Raises APIError for an error event, StreamBroken for an event that is not JSON and for a
        stream without end, Timeout for one that brings no token.
        """
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise StreamBroken("The stream is longer than any answer: it was not read on.")
        num_empty = self._parser.num_empty
        for event in self._parser.feed(data):
            if event.data.strip() == DONE:
                self.done = True
            if self.done:
                return
            parsed = _parse(event)
            if brings_token(parsed):
                self._empty.token()
                num_empty = self._parser.num_empty
            else:
                self._empty.add(1)
            raw = parsed if self._new_part is None else self._new_part(parsed)
            for chunk in Chunk.read(raw) if raw is not None else ():
                self._gather(chunk)
                yield chunk
        self._empty.add(self._parser.num_empty - num_empty)

    def restart(self) -> None:
        """Another stream follows, of the same answer: half an event of this one is forgotten."""
        self._parser = EventParser()
        self._empty.token()

    def finish(self) -> None:
        """The bytes have ended. Raises StreamBroken unless `[DONE]` has been seen."""
        if not self.done and not any(event.data.strip() == DONE for event in self._parser.finish()):
            raise StreamBroken("The stream ended without [DONE]: the answer may be cut.")
        self.done = True

    def answer(self) -> A:
        """The answer so far; whole once `done`."""
        return self._answer_type(
            text="".join(self._texts),
            finish_reason=self._finish_reason,
            usage=self._usage,
            timings=self._last.timings,
            id=self._last.id,
            model=self._last.model,
            raw=self._last.raw,
        )

    def _gather(self, chunk: Chunk) -> None:
        self._last = chunk
        self._usage = chunk.usage or self._usage
        if chunk.index == 0:
            self._texts.append(chunk.text)
            self._finish_reason = chunk.finish_reason or self._finish_reason


def _parse(event: Event) -> dict[str, Any]:
    try:
        raw = json.loads(event.data)
    except (ValueError, RecursionError):
        raise StreamBroken("An event of the stream is not JSON.") from None
    if not isinstance(raw, dict):
        raise StreamBroken("An event of the stream is not a JSON object.")
    if raw.get("error") or event.name == "error":
        raise error_from(None, raw)
    return raw
