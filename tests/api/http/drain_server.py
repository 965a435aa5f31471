"""A server process over the fake engine, for tests of signals. Prints its URL, then serves.

python -m tests.api.http.drain_server open|shut|endless DRAIN_SECONDS DRAIN_DELAY

`shut`: no token comes before the process gets SIGUSR1. `endless`: three come, and then none.
"""

import asyncio
import signal
import sys
import threading

from tests.api.support import EOS, fake_engine, ready_state
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.logs import configure
from thirdeye.server.transport.server import bind, serve, url_of


def main() -> None:
    drain_seconds, drain_delay = float(sys.argv[2]), float(sys.argv[3])
    gate = threading.Event()
    if sys.argv[1] != "shut":
        gate.set()
    signal.signal(signal.SIGUSR1, lambda *_: gate.set())
    hang_after = 3 if sys.argv[1] == "endless" else None
    configure("info")
    state = ready_state(fake_engine([*b"x" * 20, EOS], gate=gate, hang_after=hang_after))
    sock = bind("127.0.0.1", 0)

    async def announce() -> None:
        print(url_of(sock), flush=True)

    seconds = {"drain_seconds": drain_seconds, "drain_delay": drain_delay}
    asyncio.run(serve(create_app(state), state, sock, load=announce, **seconds))


if __name__ == "__main__":
    main()
