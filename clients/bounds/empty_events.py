"""How long a stream is read on that brings no token.

Comments (servers send them as pings), blank lines, fields that say nothing and chunks with nothing
in them may each come in time and for ever. They are counted, and timed, from the last token on. A
prompt may take an hour, and be pinged for meanwhile: an honest server is far below both limits.
"""

import time
from collections.abc import Callable
from typing import Any

from thirdeye.clients.errors import StreamBroken, Timeout

MAX_EMPTY_EVENTS = 100_000
MAX_EMPTY_SECONDS = 3600.0
HINTS = {"role", "index", "id", "type"}  # of a delta, which is empty beside them


class EmptyEvents:
    """Of one stream; `limit` lines or events, `seconds` (None: for ever) between tokens."""

    def __init__(
        self,
        limit: int = MAX_EMPTY_EVENTS,
        seconds: float | None = MAX_EMPTY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self.token()

    def token(self) -> None:
        """One came; or the stream begins."""
        self._num, self._since = 0, self._clock()

    def add(self, count: int) -> None:
        """So many that brought nothing, which may be none. Raises StreamBroken or Timeout."""
        if not count:
            return
        self._num += count
        if self._num > self._limit:
            raise StreamBroken(
                f"The stream sent {self._limit:,} events without a token: it was not read on."
            )
        if self._seconds is not None and self._clock() - self._since > self._seconds:
            raise Timeout(
                f"The stream brought no token for {self._seconds:g} s, pings alone: it was left. "
                "If a token may take as long, raise 'token_timeout' of the client."
            )


def brings_token(chunk: dict[str, Any]) -> bool:
    """Whether any choice of a chunk has a text, a thought, a call, an id or an end."""
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(map(_says_something, choices))


def _says_something(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    if any(choice.get(name) for name in ("text", "finish_reason", "token_ids")):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(
        value for name, value in delta.items() if name not in HINTS
    )
