"""A child process and our end of its socket: started, and not spoken to yet.

The child is a fresh interpreter, not a fork. What it imports first takes a second, so whoever wants
an engine soon starts it here before doing slow things of its own; `process.py` takes it from there.
Small on purpose: it imports neither asyncio nor msgspec.
"""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spawned:
    """Whoever holds it speaks to the child, or ends it with `kill`."""

    process: subprocess.Popen[bytes]
    sock: socket.socket  # non-blocking

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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
