"""What the API and the socket below it tell each other beside ASGI.

`server/transport/` offers `DirectWriter` in each request's scope: bytes are taken without waiting.
The application may have `RefuseEarly` as an attribute: the transport asks it before it starts
anything. Each is used where it is there.
"""

from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple, Protocol

DIRECT_WRITE = "thirdeye.direct_write"
REFUSE_EARLY = "refuse_early"


class DirectWriter(Protocol):
    """The body of one answer, written to its socket without waiting."""

    @property
    def is_open(self) -> bool:
        """Whether the answer has begun and its client takes what is written."""

    def write(self, body: bytes) -> None:
        """As a message `http.response.body` would, with more to come, and soon: before whatever
        the event loop is told to do later. Only while it is open."""


class EarlyAnswer(NamedTuple):
    """A whole answer. Of the head nothing is missing but what the transport adds to all."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    end: Callable[[int], None]  # to be told its status once it is written; 0: nobody was there
    repeat: "Repeat | None" = None  # for whoever comes with the very same head


class Repeat(Protocol):
    status: int

    def __call__(self) -> bytes | None:
        """What a request with this head hears now: all behind the status line and what the
        transport adds. It is counted as written. None: this is no longer certain, ask anew."""


class RefuseEarly(Protocol):
    max_body_bytes: int  # that are taken of a body before its answer

    def __call__(self, scope: MutableMapping[str, Any], /) -> EarlyAnswer | None:
        """The answer in the application's place, which is not called then. None: call it."""
