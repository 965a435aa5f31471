"""What an engine is told by other threads, waited for together with descriptors."""

import select
import socket
import weakref
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from thirdeye.server.engine.process.messages import Command

TICK_SECONDS = 1.0  # answers that wait for a descriptor have deadlines
MANY = 4096  # bytes of a burst; what is left over wakes once more


class Wake:
    """Look again: something else than a command has made work."""


class Inbox:
    """Any thread puts; one waits and takes."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Command | Wake] = SimpleQueue()
        self._told, self._tells = socket.socketpair()  # a byte, or more, for what was put
        for end in (self._told, self._tells):
            end.setblocking(False)
            weakref.finalize(self, end.close)

    def put(self, message: Command | Wake) -> None:
        self._queue.put(message)
        with suppress(BlockingIOError):  # it is full of bytes that say the same
            self._tells.send(b"+")

    def wait(self, descriptors: Sequence[int] = (), seconds: float | None = None) -> bool:
        """Until something is there, or one of the descriptors is readable or has ended: whether
        that is so. For `seconds` at most; for TICK_SECONDS where only descriptors are named."""
        waiting = select.poll()
        for descriptor in (self._told.fileno(), *descriptors):
            waiting.register(descriptor, select.POLLIN)
        if seconds is None and descriptors:
            seconds = TICK_SECONDS
        return bool(waiting.poll(None if seconds is None else 1000 * seconds))

    def take(self) -> list[Command | Wake]:
        """All that is there."""
        with suppress(BlockingIOError):
            self._told.recv(MANY)
        found: list[Command | Wake] = []
        while True:
            try:
                found.append(self._queue.get_nowait())
            except Empty:
                return found
