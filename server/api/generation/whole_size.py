"""How much of an answer is kept until it is whole: so many tokens and logprobs, and no more.

A stream sends what it has. A whole answer is kept to its end, some 300 bytes for each token and
each logprob of an alternative, and a request of 300 bytes can ask for millions: its samples, times
their tokens, times 20 alternatives.
"""

from collections.abc import Iterable

from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.events import TextEvent

MAX_WHOLE = 1 << 20  # tokens and logprobs of one answer


class WholeSize:
    """Counts while the answer grows."""

    def __init__(self, limit: int = MAX_WHOLE) -> None:
        self._limit = limit
        self._num = 0

    def add(self, event: TextEvent) -> None:
        """Raises `InvalidRequest` for more than may be kept."""
        self._num += sum(_sizes(event))
        if self._num > self._limit:
            raise InvalidRequest(
                f"The answer has more than {self._limit:,} tokens and logprobs together, all its "
                "choices counted: set 'stream': true, or ask for fewer.",
                code="request_too_large",
            )


def _sizes(event: TextEvent) -> Iterable[int]:
    for token in event.tokens:
        yield 1 if token.logprobs is None else 1 + len(token.logprobs.top)
    for position in event.prompt_logprobs or ():
        yield 1 + len(position.top)
