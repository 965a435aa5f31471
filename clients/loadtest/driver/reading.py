"""One answer as it is read: when text came, what `usage` says, and whether the end was an end.

The answer of a load test is mostly events of one token, at tens of thousands a second, so each is
decoded into just the fields that are looked at. The first text is the first that is not empty: the
event that only names the role is none. It knows no socket.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from thirdeye.clients.core import Reply, refusal
from thirdeye.clients.errors import APIError, StreamBroken
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

    def __init__(self) -> None:
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
        self._parser = EventParser()

    def sent(self, now: float) -> None:
        self.sent_at = now

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, dict(headers)

    def body(self, data: bytes, now: float) -> None:
        if self._status != 200:
            self._refusal += data
        elif self.failure is None:
            try:
                for event in self._parser.feed(data):
                    self._take(event.data, now)
            except (msgspec.MsgspecError, StreamBroken):
                self.failure = "stream"

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
        for choice in chunk.choices:
            if text := _text(choice):
                self.texts.append(text)
                self.text_times.append(now)

    @property
    def cached_tokens(self) -> int:
        details = self.usage.prompt_tokens_details if self.usage else None
        return (details.cached_tokens or 0) if details else 0


def _text(choice: Choice) -> str | None:
    """Chat's delta, thoughts included, or the text of a completion."""
    if choice.delta is not None:
        return choice.delta.content or choice.delta.reasoning_content
    return choice.text
