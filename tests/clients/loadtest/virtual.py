"""An event loop whose time moves only when nobody has anything to do: a second of waiting is none.

Sockets work on it: both ends live in this process, so what one end has written the other can read
before time moves on. Whatever a server sleeps is then exactly what its client measures, on a
machine however busy.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

HANDOVER = 0.002  # real seconds the kernel gets to carry bytes over loopback
LONGEST = 20.0  # real seconds without anything to wait for: the test hangs


class PatientSelector(selectors.DefaultSelector):
    """Skips waits: moves its own clock on by them."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            ready = super().select(LONGEST)
            assert ready, "nothing is due and nothing comes"
            return ready
        ready = super().select(HANDOVER if timeout > 0 else 0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = PatientSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    """The running loop's time: the clock to hand to what is tested."""
    return asyncio.get_running_loop().time()
