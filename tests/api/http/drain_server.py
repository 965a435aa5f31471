"""A server process over the fake engine, for tests of signals.

    with process("shut") as (server, url):
        ...
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0

`shut`: no token comes before the process gets SIGUSR1. `endless`: three come, and then none. Each
is a fork of one process without threads that has imported all it needs: that takes a second.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.api.support import EOS, fake_engine, ready_state
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.logs import configure
from thirdeye.server.transport.server import bind, serve, url_of

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


@dataclass
class DrainServer:
    process: BaseProcess
    errors: Path  # what it has written to standard error

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 20) -> int | None:
        """The exit status, none if it has not ended by then."""
        self.process.join(seconds)
        return self.process.exitcode


@contextmanager
def process(
    mode: str = "open", drain_seconds: float = 60, drain_delay: float = 0
) -> Iterator[tuple[DrainServer, str]]:
    """A server process and its URL."""
    told, tells = FORKS.Pipe(duplex=False)
    with TemporaryDirectory() as folder, told:
        errors = Path(folder) / "stderr"
        seconds = {"drain_seconds": drain_seconds, "drain_delay": drain_delay}
        child = FORKS.Process(target=run, args=(mode, seconds, tells, str(errors)))
        child.start()
        tells.close()  # ours: a child that ends without a word is an EOFError
        try:
            yield DrainServer(child, errors), told.recv_bytes().decode()
        finally:
            child.kill()
            child.join()
            child.close()


def run(mode: str, seconds: dict[str, float], tells: Connection, errors: str) -> None:
    """What the process does."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    gate = threading.Event()
    if mode != "shut":
        gate.set()
    signal.signal(signal.SIGUSR1, lambda *_: gate.set())
    hang_after = 3 if mode == "endless" else None
    configure("info")
    state = ready_state(fake_engine([*b"x" * 20, EOS], gate=gate, hang_after=hang_after))
    sock = bind("127.0.0.1", 0)

    async def announce() -> None:
        tells.send_bytes(url_of(sock).encode())

    asyncio.run(serve(create_app(state), state, sock, load=announce, **seconds))
