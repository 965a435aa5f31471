"""Connections that were refused a moment ago are not read at once, but together.

Between two wake-ups of this process the model's weights take the processor's caches, so the first
refusal of a wake-up costs several times what the next ones do, and each interrupts the engine's
step, whose threads wait for each other. Whoever asks again on the connection on which it has just
been told to come back in a second or more waits up to `SECONDS`; all others are read as ever. The
kernel does the waiting: with `SO_RCVLOWAT` a socket is not readable before so many bytes are there.
Where there is no such option (it is Linux's, and works there with epoll), nobody waits.
"""

import asyncio
import socket
import sys
from contextlib import suppress

SECONDS = 0.02  # of the 50 ms in which 99 of 100 refusals are to be told
MANY = 65536  # bytes: a larger request is read as it comes
_LEVEL = socket.SOL_SOCKET
_OPTION = socket.SO_RCVLOWAT if sys.platform == "linux" else None


class HeldBack:
    """The sockets of one event loop that wait, until the next of its ticks."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._held: list[asyncio.Transport] = []

    def hold(self, transport: asyncio.Transport) -> None:
        if _OPTION is None or (sock := transport.get_extra_info("socket")) is None:
            return
        try:
            sock.setsockopt(_LEVEL, _OPTION, MANY)
        except OSError:  # a system that says it is Linux, and has no such option
            return
        if not self._held:
            asyncio.get_running_loop().call_later(self._seconds, self.release)
        self._held.append(transport)

    def release(self) -> None:
        held, self._held = self._held, []
        for transport in held:
            if not transport.is_closing():
                with suppress(OSError):  # it ends just now
                    transport.get_extra_info("socket").setsockopt(_LEVEL, _OPTION, 1)
