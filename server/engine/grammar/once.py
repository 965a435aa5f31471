"""What is made when it is first asked for, and once: whatever thread asks, the others wait."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """Call it for what was made. What fails is tried again by whoever asks next."""

    def __init__(self, make: Callable[[], Made]) -> None:
        """`make`, and all that it refers to, is let go of when it has returned."""
        self._make: Callable[[], Made] | None = make
        self._lock = threading.Lock()

    def __call__(self) -> Made:
        """Raises what `make` does."""
        with self._lock:
            if self._make is not None:
                self._made = self._make()
                self._make = None
            return self._made
