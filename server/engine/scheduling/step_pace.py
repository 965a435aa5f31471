"""How many tokens a step may have, from how fast this machine turns out to be.

What decodes waits for the prompt chunk that shares its step, so a step shall take about a fixed
time: many tokens on a fast machine, few on a slow or a busy one. Answers do not depend on it: their
bits are the same for chunks of any size (docs/numerics.md).
"""

from thirdeye.server.engine.interface.engine_config import EngineConfig

MEMORY = 0.75  # of the old speed is kept when a step shows a new one


class StepPace:
    """`num_tokens` is the budget of the next step; without `step_seconds` it never changes."""

    def __init__(self, config: EngineConfig) -> None:
        self._seconds = config.step_seconds
        self._most = config.max_num_batched_tokens
        self._least = min(self._most, 2 * config.max_num_seqs)  # half of it is left to prompts
        self._speed = 0.0  # tokens per second, 0 before the first measurement
        self.num_tokens = min(self._most, 2 * self._least) if self._seconds else self._most

    def observe(self, num_tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long. Few tokens tell nothing: weights are read once."""
        if not self._seconds or num_tokens < self._least or seconds <= 0:
            return
        speed = num_tokens / seconds
        self._speed = MEMORY * self._speed + (1 - MEMORY) * speed if self._speed else speed
        self.num_tokens = max(self._least, min(self._most, int(self._speed * self._seconds)))
