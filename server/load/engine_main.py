"""The first lines of the engine's process, before torch is there.

Importing torch makes half a million objects that all stay: a garbage collector that looks at them
again and again finds nothing and takes a tenth of the time. It is switched on again when the engine
is loaded (`server/engine/process/engine_process.py`).
"""

import gc
import os
import sys

from thirdeye.model.loading.import_torch import import_torch
from thirdeye.server.oom_score import LOADING, end_before_others


def main() -> int:
    gc.disable()
    end_before_others(LOADING)  # torch alone can be what the memory is too small for
    import_torch()
    from thirdeye.server.load.load_engine import main as serve  # noqa: PLC0415 (it needs torch)

    return serve()


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)  # all has been said; taking torch apart would take a second or more
