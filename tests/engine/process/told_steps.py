"""Steps of an engine that end when a test says so, in whichever thread or process they are: what
shall happen while a request runs has happened by then, on a machine of any load."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SLOW = 100.0  # seconds that a busy machine may take for what is a matter of three at rest
LOOK_SECONDS = 0.002


class ToldSteps:
    """Steps are held while `path` is there. A byte in it lets one of them end, which takes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """By the test: within, no step ends but those that are told to."""
        self.path.touch()
        try:
            yield
        finally:
            self.path.unlink()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets held steps end, one after the other, until the condition is true. One more may have
        been told to by then; the next is held."""
        async with asyncio.timeout(SLOW):
            while not condition():
                if not self.path.stat().st_size:
                    self.path.write_bytes(b"+")
                await asyncio.sleep(LOOK_SECONDS)

    def is_set(self) -> bool:
        """By the engine: whether a step may end. Asked until it may, once for each step."""
        try:
            if not self.path.stat().st_size:
                return False
            os.truncate(self.path, 0)
        except FileNotFoundError:  # nobody holds them
            pass
        return True

    def wait(self) -> None:
        """By the engine: until a step may end."""
        while not self.is_set():
            time.sleep(LOOK_SECONDS)
