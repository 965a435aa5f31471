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
    num_missed: int = 0  # steps that it is made for, and that went without

    def refuse(self, reason: str) -> None:
        """It is not taken from now on. The first reason stays."""
        if not self.reason:
            self.reason = reason
            logger.warning("steps go without the %s, which is faster: %s", self.name, reason)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"
