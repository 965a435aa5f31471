"""`thirdeye serve`, up to the moment the model is opened: the engine's process, then the settings.

What this imports first costs little, so that the engine's process is there early: its torch and the
libraries of this process take a second each, side by side. What the engine has to be told comes
next (`server/launch/ahead.py`), and the web framework last. The garbage collector is switched on
again when all is loaded (`server/garbage_collection.py`). A mistake of the operator's is one
message that names the flag and the way out.
"""

import gc
import time
from typing import Any

from thirdeye.server.launch.console import fail
from thirdeye.server.launch.spawner import EngineSpawner


def serve_command(options: dict[str, Any]) -> int:
    """The exit status of `thirdeye serve` with these options."""
    started = time.monotonic()
    gc.disable()  # what is imported stays: a sixth of the start would go into looking at it
    with EngineSpawner() as spawner:
        try:
            spawner.start_ahead()
        except OSError as error:
            return fail(f"The engine process cannot be started: {error}.")
        from thirdeye.server.launch.ahead import open_ahead  # noqa: PLC0415 (takes half a second)

        opened = open_ahead(options, spawner)
        from thirdeye.server.launch.server_run import run_command  # noqa: PLC0415 (takes another)

        return run_command(options, spawner, started, opened)
