"""The first lines of a further rank's process, before torch is there.

Run by rank 0 as `python -m thirdeye.server.load.rank_main FD`, where FD is the socket to it, see
`server/engine/distributed/leader.py`; on another host by `thirdeye rank`, with a model's path
before FD. From here on it ends with its parent, also if that dies within the seconds that the rest
takes to be imported. Garbage is not looked for before the model is loaded, see `engine_main.py`.
"""

import gc
import os
import sys

from thirdeye.server.engine.process.spawn import bind_to_parent


def main() -> int:
    bind_to_parent()
    gc.disable()
    from thirdeye.server.load.load_rank import main as serve  # noqa: PLC0415 (here is where torch is imported)

    return serve()


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)
