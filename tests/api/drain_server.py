"""A server process over the fake engine, for tests of signals. Prints its URL, then serves.

python -m tests.api.drain_server DELAY DRAIN_SECONDS
"""

import sys

from server.app import create_app
from server.logs import configure
from server.serve import run
from tests.api.support import EOS, fake_engine, ready_state


def main() -> None:
    delay, drain_seconds = float(sys.argv[1]), float(sys.argv[2])
    configure("info")
    state = ready_state(fake_engine([*b"x" * 20, EOS], delay=delay))
    run(
        create_app(state),
        state,
        port=0,
        drain_seconds=drain_seconds,
        on_listening=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    main()
