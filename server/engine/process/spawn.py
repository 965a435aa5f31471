"""A child process from both sides: started with a socket, and bound to its parent's life.

The child is a fresh interpreter, not a fork. What it imports first takes a second, so whoever wants
an engine soon starts it here before doing slow things of its own; `process_engine.py` speaks to it.
Small on purpose: it imports neither asyncio nor msgspec, so a child too is bound before it spends
seconds on torch.
"""

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(slots=True)
class Spawned:
    """Whoever holds it speaks to the child, or ends it with `kill`."""

    process: subprocess.Popen[bytes]
    sock: socket.socket  # non-blocking
    recipe: bytes | None = None  # that it was told already, see `process_engine.tell_ahead`

    def kill(self) -> None:
        """End a child that nobody has spoken to; leaves nothing behind."""
        self.sock.close()
        self.process.kill()
        self.process.wait()


def spawn(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Spawned:
    """Run `argv` with the socket's descriptor number as one more argument. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    with theirs:
        try:
            with _signals_blocked():
                process = subprocess.Popen(
                    [*argv, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=env,
                )
        except BaseException:
            ours.close()
            raise
    return Spawned(process, ours)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A child started in here never hears the terminal's signals, not even before its first line.

    It inherits the mask. This thread takes its own signals afterwards: none is lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def bind_to_parent() -> None:
    """In the child: hear no signal of the terminal's, and end with the parent."""
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
