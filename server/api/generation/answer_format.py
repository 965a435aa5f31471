"""What an answer looks like is its dialect's matter: its chunks, their bytes, and their sum.

A stream sends each chunk as it comes, and a whole answer is what the same chunks add up to
(`Joined`): nothing but a dialect's `chunks` knows how news of the model becomes part of an answer.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from thirdeye.server.text.events import TextEvent

JsonObject = dict[str, object]
Chunk = TypeVar("Chunk")

encode = msgspec.json.Encoder().encode


class AnswerFormat(Protocol[Chunk]):
    """One request's answer in a dialect. Whoever uses it looks at a chunk before asking for the
    next: what one refers to may grow with the next."""

    def chunks(self, index: int, event: TextEvent) -> Iterable[Chunk]:
        """What an event adds to the answer."""

    def frames(self, index: int, event: TextEvent) -> Iterable[bytes]:
        """The same chunks, as a stream sends them."""

    def last_frames(self) -> Iterable[bytes]:
        """What follows the last event in a stream alone: the usage, if it was asked for."""

    def whole(self, chunks: Sequence[Chunk]) -> object:
        """What all chunks of an answer add up to, ready to be encoded as JSON."""


class WholeAnswer(Protocol):
    """An answer in one piece."""

    def add(self, index: int, event: TextEvent) -> None:
        """Remember an event for the whole answer."""

    def whole(self) -> object:
        """The answer, once every choice has ended."""


class Joined(Generic[Chunk]):
    """A `WholeAnswer`: the chunks of its stream, joined."""

    def __init__(self, form: AnswerFormat[Chunk]) -> None:
        self._form = form
        self._chunks: list[Chunk] = []

    def add(self, index: int, event: TextEvent) -> None:
        self._chunks.extend(self._form.chunks(index, event))

    def whole(self) -> object:
        return self._form.whole(self._chunks)
