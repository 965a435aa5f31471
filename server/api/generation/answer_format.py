"""What chat and completions answers have in common: a head, choices, usage, timings.

A `Shape` turns one request's events into chunks of bytes, or into one whole object. The head of a
chunk is encoded once per stream and each chunk is spliced from bytes, since this runs for every
token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.usage import Tally
from thirdeye.server.api.requests.generation_fields import StreamOptions
from thirdeye.server.engine.interface.types import PromptProgress
from thirdeye.server.text.events import TextEvent

JsonObject = dict[str, object]

encode = msgspec.json.Encoder().encode


class WholeShape(Protocol):
    """An answer in one piece."""

    def add(self, index: int, event: TextEvent) -> None:
        """Remember an event for the whole answer."""

    def whole(self) -> object:
        """The answer, once every choice has ended."""


class Shape(WholeShape, Protocol):
    """One of the two answer formats, for one request: whole, or as a stream."""

    def chunks(self, index: int, event: TextEvent) -> Iterator[bytes]:
        """The stream chunks of one event."""

    def last_chunks(self) -> Iterator[bytes]:
        """What follows the last event: the usage chunk, if it was asked for."""


@dataclass(frozen=True, slots=True)
class Head:
    """The keys every answer and every chunk of it starts with."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    service_tier: str | None = None

    def fields(self) -> JsonObject:
        fields: JsonObject = {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }
        return fields | ({"service_tier": self.service_tier} if self.service_tier else {})

    @staticmethod
    def of(
        generation: Generation, kind: str, fingerprint: str, service_tier: str | None = None
    ) -> "Head":
        return Head(
            generation.id, kind, generation.created, generation.model, fingerprint, service_tier
        )


class ChunkWriter:
    """Splices chunks: `{head,"choices":[choice]extra,usage,timings,receipt}`."""

    def __init__(
        self,
        head: Head,
        options: StreamOptions | None,
        tally: Tally,
        template: tuple[bytes, bytes] | None = None,
    ) -> None:
        """`template`: what a choice has before and behind its text while it goes on with nothing
        else; its number is the `%d` of the first half."""
        self._head = encode(head.fields())[:-1] + b',"choices":['
        self._options = options or StreamOptions()
        self._tally = tally
        self._template: tuple[bytes, bytes] | None = None
        self._fronts: dict[int, bytes] = {}  # all that stands before the text of each choice
        if template is not None and not self._options.continuous_usage_stats:
            self._template = template[0], template[1] + b"]" + self._usage() + b"}"

    def chunk(self, choice: bytes, extra: bytes = b"") -> bytes:
        """One chunk with one choice; `extra` is more keys, each with a comma before it."""
        return b"".join((self._head, choice, b"]", extra, self._usage(), self._end(), b"}"))

    def text_chunk(self, index: int, text: str) -> bytes | None:
        """The chunk of a choice that goes on with nothing but text: made from the template's two
        halves. None if these differ from chunk to chunk."""
        if self._template is None or self._tally.is_finished:
            return None
        before, after = self._template
        front = self._fronts.get(index)
        if front is None:
            front = self._fronts[index] = self._head + before % index
        return front + encode(text) + after

    def usage_chunk(self) -> Iterator[bytes]:
        """The chunk without choices that ends a stream with `include_usage`."""
        if self._options.include_usage:
            usage = _key(b"usage", self._tally.usage())
            yield b"".join((self._head, b"]", usage, self._encoded_end(), b"}"))

    def progress_chunk(self, index: int, progress: PromptProgress) -> bytes:
        """llama.cpp's: how far a prompt is, before its first token."""
        shown = {
            "index": index,
            "total": progress.num_prompt_tokens,
            "cache": progress.num_cached_tokens,
            "processed": progress.num_computed_tokens,
            "time_ms": round(progress.elapsed_ms, 1),
        }
        return self.chunk(b"", _key(b"prompt_progress", shown))

    def _usage(self) -> bytes:
        if self._options.continuous_usage_stats:
            return _key(b"usage", self._tally.usage())
        return b',"usage":null' if self._options.include_usage else b""

    def _end(self) -> bytes:
        """On the last JSON chunk only: when a usage chunk follows, it is that one."""
        is_last = self._tally.is_finished and not self._options.include_usage
        return self._encoded_end() if is_last else b""

    def _encoded_end(self) -> bytes:
        timings = optional(b"timings", self._tally.timings())
        return timings + optional(b"receipt", self._tally.receipt())


def _key(name: bytes, value: object) -> bytes:
    return b',"' + name + b'":' + encode(value)


def optional(name: bytes, value: object) -> bytes:
    """`,"name":value`, or nothing for None: a key to splice in."""
    return b"" if value is None else _key(name, value)


def whole_answer(head: Head, choices: list[JsonObject], tally: Tally) -> JsonObject:
    answer = head.fields() | {"choices": choices, "usage": tally.usage()}
    extras = {"timings": tally.timings(), "receipt": tally.receipt()}
    return answer | {name: value for name, value in extras.items() if value is not None}
