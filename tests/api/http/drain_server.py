"""A server process over the fake engine, for tests of signals. Prints its URL, then serves.

python -m tests.api.http.drain_server DELAY DRAIN_SECONDS
"""

import asyncio
import sys

from tests.api.support import EOS, fake_engine, ready_state
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.logs import configure
from thirdeye.server.transport.server import bind, serve, url_of


def main() -> None:
    delay, drain_seconds = float(sys.argv[1]), float(sys.argv[2])
    configure("info")
    state = ready_state(fake_engine([*b"x" * 20, EOS], delay=delay))
    sock = bind("127.0.0.1", 0)

    async def announce() -> None:
        print(url_of(sock), flush=True)

    asyncio.run(serve(create_app(state), state, sock, drain_seconds=drain_seconds, load=announce))


if __name__ == "__main__":
    main()
