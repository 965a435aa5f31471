"""A fast path that does not apply says so: once in the log, and to whoever asks why and how often.

Whoever has such a path makes one of these, refuses it when it turns out that it cannot be taken,
and counts the steps that go another way. What it says goes to the ready line and to the metrics.
"""

import logging
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class FastPath:
    """`reason` is empty as long as nothing is in the way."""

    name: str
    reason: str = ""
    num_missed: int = 0  # steps that it is made for, and that went without, or in parts
    is_in_parts: bool = False  # it is taken, but for what the reason names

    @property
    def is_taken(self) -> bool:
        return not self.reason or self.is_in_parts

    @property
    def missed(self) -> str:
        """What steps go without."""
        return f"whole {self.name}" if self.is_in_parts else self.name

    def refuse(self, reason: str) -> None:
        """It is not taken from now on. The first reason stays."""
        if self.is_taken:
            self._say(reason, is_in_parts=False)

    def interrupt(self, reason: str) -> None:
        """It is taken from now on, but for this. The first reason stays."""
        if not self.reason:
            self._say(reason, is_in_parts=True)

    def _say(self, reason: str, *, is_in_parts: bool) -> None:
        self.reason, self.is_in_parts = reason, is_in_parts
        logger.warning("steps go without the %s, which is faster: %s", self.missed, reason)

    def __str__(self) -> str:
        return f"{self.missed}: {self.reason}"
