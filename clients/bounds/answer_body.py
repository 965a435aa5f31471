"""How much of a server's answer is read: a client must not die of what somebody else sends.

Bytes are counted as they come, before anything is made of them. Compression is not asked for, and
refused: a few kilobytes of it can stand for any number of bytes. A body that has begun is there
at once where a server means well: one that comes byte by byte is not waited for to its end.
"""

import time
from collections.abc import Callable, Mapping

from thirdeye.clients.errors import ThirdeyeError, Timeout

MAX_ANSWER_BYTES = 64 * 2**20  # a whole answer; the largest honest ones are looks inside
MAX_REFUSAL_BYTES = 64 * 2**10  # of an error's body: what comes later says nothing new,
MAX_REFUSAL_SECONDS = 10.0  # nor what comes so late
MAX_STREAM_BYTES = 256 * 2**20  # of a stream, pings apart; a token takes some 250


class Body:
    """A whole answer's bytes, gathered within `limit`, and within `seconds` from now; `is_cut`
    keeps the beginning of a longer one instead of refusing it."""

    def __init__(
        self,
        headers: Mapping[str, str],
        limit: int,
        seconds: float | None = None,
        *,
        is_cut: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_cut:
            check_encoding(headers)
        self._limit = limit
        self.seconds = seconds
        self._is_cut = is_cut
        self._clock = clock
        self._began = clock()
        self._data = bytearray()

    @property
    def is_full(self) -> bool:
        """No more need be read."""
        return self._is_cut and (len(self._data) >= self._limit or self._is_late)

    @property
    def _is_late(self) -> bool:
        return self.seconds is not None and self._clock() - self._began > self.seconds

    def feed(self, data: bytes) -> None:
        """Raises ThirdeyeError beyond the limits."""
        self._data += data
        if self._is_late and not self._is_cut:
            raise Timeout(
                f"The server's answer was not whole {self.seconds:g} s after its beginning: it "
                "was not read on."
            )
        if len(self._data) > self._limit and not self._is_cut:
            raise ThirdeyeError(
                f"The server's answer is longer than {self._limit:,} bytes: it was not read on. "
                "If it is meant to be, raise 'max_answer_bytes' of the client."
            )

    def read(self) -> bytes:
        return bytes(self._data[: self._limit])


def check_encoding(headers: Mapping[str, str]) -> None:
    """Raises ThirdeyeError for an answer that is compressed, though nobody asked for that."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ThirdeyeError(
            f"The server's answer is compressed ({encoding[:40]!r}), which was not asked for."
        )
