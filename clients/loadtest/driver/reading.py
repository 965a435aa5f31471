"""One answer as it is read: when text came, what `usage` says, and whether the end was an end.

The answer of a load test is mostly events of one token, at tens of thousands a second, so each is
decoded into just the fields that are looked at. The first text is the first that is not empty: the
event that only names the role is none. It knows no socket.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from thirdeye.clients.bounds.answer_body import MAX_REFUSAL_BYTES, MAX_STREAM_BYTES
from thirdeye.clients.bounds.empty_events import EmptyEvents
from thirdeye.clients.core import Reply, refusal
from thirdeye.clients.errors import APIError, StreamBroken
from thirdeye.clients.loadtest.driver.wire import WireError
from thirdeye.clients.sse import EventParser
from thirdeye.clients.stream import DONE


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class UsageCounts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None


class Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta | None = None
    text: str | None = None


class StreamedChunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: UsageCounts | None = None
    error: Any = None


class Reading:
    """A `wire.Sink`. Afterwards `failure` is None for a whole answer, else what to call it."""

    _decoder = msgspec.json.Decoder(StreamedChunk)

    def __init__(self, empty: EmptyEvents | None = None, max_bytes: int = MAX_STREAM_BYTES) -> None:
        self.sent_at: float | None = None
        self.ended_at: float | None = None  # when [DONE] came
        self.text_times: list[float] = []
        self.texts: list[str] = []
        self.num_events = 0
        self.usage: UsageCounts | None = None
        self.failure: str | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._refusal = bytearray()
        self._num_bytes = 0  # of a stream
        self._parser = EventParser()
        self._max_bytes = max_bytes
        self._empty = empty or EmptyEvents(seconds=None)  # a load test has a timeout of its own

    def sent(self, now: float) -> None:
        self.sent_at = now

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, dict(headers)

    def body(self, data: bytes, now: float) -> None:
        """Raises WireError for what is not read on; `failure` is said by then."""
        if self._status != 200:
            self._refusal += data
            self._check_size(len(self._refusal), MAX_REFUSAL_BYTES)
        elif self.failure is None:
            self._num_bytes += len(data)
            self._check_size(self._num_bytes, self._max_bytes)
            num_empty = self._parser.num_empty
            try:
                for event in self._parser.feed(data):
                    self._take(event.data, now)
                self._empty.add(self._parser.num_empty - num_empty)
            except (msgspec.MsgspecError, StreamBroken) as error:
                self.failure = "stream"
                raise WireError(f"it is no stream of tokens: {error}") from error

    def _check_size(self, num_bytes: int, limit: int) -> None:
        if num_bytes > limit:
            self.failure = "stream" if self._status == 200 else str(self._status)
            raise WireError(f"it is longer than {limit:,} bytes")

    def finish(self) -> APIError | None:
        """The answer is over. Returns the server's refusal, if that is what it was."""
        if self._status != 200:
            self.failure = str(self._status)
            reply = Reply(self._status, self._headers, bytes(self._refusal))
            return refusal(reply, time.time())
        if self.ended_at is None:
            self.failure = "stream"
        return None

    def _take(self, data: str, now: float) -> None:
        if data == DONE:
            self.ended_at = now
            return
        chunk = self._decoder.decode(data)
        self.num_events += 1
        if chunk.error:
            self.failure = "stream"
        if chunk.usage is not None:
            self.usage = chunk.usage
        texts = [text for choice in chunk.choices if (text := _text(choice))]
        for text in texts:
            self.texts.append(text)
            self.text_times.append(now)
        if texts:
            self._empty.token()
        else:
            self._empty.add(1)

    @property
    def cached_tokens(self) -> int:
        details = self.usage.prompt_tokens_details if self.usage else None
        return (details.cached_tokens or 0) if details else 0


def _text(choice: Choice) -> str | None:
    """Chat's delta, thoughts included, or the text of a completion."""
    if choice.delta is not None:
        return choice.delta.content or choice.delta.reasoning_content
    return choice.text
