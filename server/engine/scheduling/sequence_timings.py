"""Where one request's time goes, counted as it happens. Times are the scheduler's clock's, in
seconds.

It is called for each row of each step: no max(), no property.
"""

from dataclasses import dataclass

from thirdeye.server.engine.interface.types import Timings


@dataclass(slots=True, eq=False)
class SequenceTimings:
    arrived_at: float
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float = 0.0
    longest_gap: float = 0.0  # between two outputs
    num_steps: int = 0
    sum_batch_sizes: int = 0  # requests in all its steps together, itself included
    max_batch_size: int = 0

    def count_step(self, batch_size: int) -> None:
        """It took part in a step of so many requests."""
        self.num_steps += 1
        self.sum_batch_sizes += batch_size
        if batch_size > self.max_batch_size:
            self.max_batch_size = batch_size

    def count_output(self, now: float) -> None:
        """It got new tokens."""
        if self.first_token_at is None:
            self.first_token_at = now
        elif now - self.last_token_at > self.longest_gap:
            self.longest_gap = now - self.last_token_at
        self.last_token_at = now

    def until(self, now: float, num_preemptions: int) -> Timings:
        """What the request is told; a part that was never reached took none."""
        admitted_at = now if self.admitted_at is None else self.admitted_at
        first_token_at = now if self.first_token_at is None else self.first_token_at
        return Timings(
            queue_ms=(admitted_at - self.arrived_at) * 1000,
            prefill_ms=(first_token_at - admitted_at) * 1000,
            decode_ms=(now - first_token_at) * 1000,
            total_ms=(now - self.arrived_at) * 1000,
            num_steps=self.num_steps,
            num_preemptions=num_preemptions,
            itl_max_ms=self.longest_gap * 1000,
            batch_mean=self.sum_batch_sizes / max(self.num_steps, 1),
            batch_max=self.max_batch_size,
        )
