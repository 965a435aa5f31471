"""The ASGI extension between the API and the socket below it: bytes are taken without waiting.

`server/transport/` offers it in each request's scope, and `server/api/` uses it where it is there.
"""

from typing import Protocol

DIRECT_WRITE = "thirdeye.direct_write"


class DirectWriter(Protocol):
    """The body of one answer, written to its socket without waiting."""

    @property
    def is_open(self) -> bool:
        """Whether the answer has begun and its client takes what is written."""

    def write(self, body: bytes) -> None:
        """As a message `http.response.body` would, with more to come, and soon: before whatever
        the event loop is told to do later. Only while it is open."""
