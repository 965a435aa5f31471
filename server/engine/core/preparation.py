"""What is made while an engine has nothing to do, so that no start and no answer waits for it."""

import logging
from collections import deque
from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

Make = Callable[[], object]


class Preparation:
    """A list of things to make: one at a time, when the loop has nothing else to do."""

    def __init__(self, things: Iterable[Make] = ()) -> None:
        """In this order: one may need those before it."""
        self._things = deque(things)

    @property
    def is_over(self) -> bool:
        return not self._things

    def make_next(self) -> None:
        """One that fails ends the preparation: who needs what is left makes it, and hears why he
        cannot."""
        make = self._things.popleft()
        try:
            make()
        except Exception as error:
            self._things.clear()
            logger.warning(
                "what the first grammar needs could not be made ahead of it, and is tried again "
                "then: %s: %s",
                type(error).__name__,
                error,
            )
            logger.debug("that was here:", exc_info=error)
