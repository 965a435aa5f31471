"""What one request was like for the client: stamps of one clock in seconds, counts, how it ended.

    intended_at ---- ready_at --- sent_at ------- text_times[0] ... text_times[-1] -- ended_at
         |  waits for a place  |  lag  |  time to first token |  gaps   |
         `---- latencies are measured from here: a server that stalls the client is charged for it

In a closed loop `intended_at` is when the client's hands were free. Tokens are the server's own
count from `usage`; None if it sends none. An event may carry several tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """`error` is None for a whole answer, else an HTTP status or a word; see `exchange`."""

    intended_at: float
    ready_at: float  # the client's limit on concurrency let it go
    sent_at: float  # its bytes were handed to the socket, the first try's if there were several
    ended_at: float
    text_times: Sequence[float] = ()  # of each event with text
    num_events: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    error: str | None = None
    retries: int = 0
    turn: int = 0  # of its conversation, from 0

    @property
    def ttft(self) -> float | None:
        """Seconds from the intended time to the first text."""
        return self.text_times[0] - self.intended_at if self.text_times else None

    @property
    def ttft_from_send(self) -> float | None:
        return self.text_times[0] - self.sent_at if self.text_times else None

    @property
    def e2e(self) -> float:
        """Seconds from the intended time to the end of the answer."""
        return self.ended_at - self.intended_at

    @property
    def e2e_from_send(self) -> float:
        return self.ended_at - self.sent_at

    @property
    def gaps(self) -> list[float]:
        """Seconds between one text and the next: the inter-token latencies."""
        return [b - a for a, b in zip(self.text_times, self.text_times[1:], strict=False)]

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first: (E2E - TTFT) / (n - 1)."""
        if not self.text_times or not self.output_tokens or self.output_tokens < 2:
            return None
        return (self.ended_at - self.text_times[0]) / (self.output_tokens - 1)

    @property
    def send_lag(self) -> float:
        """Seconds that the client itself was late, a new connection's handshake included."""
        return self.sent_at - self.ready_at
