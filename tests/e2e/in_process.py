"""A tiny model's real server in this process: what `thirdeye serve` serves with these settings.

For tests whose subject is neither the command nor a process of its own: to start those takes two
seconds of processor time, most of them for imports. What `served` serves is at night the command's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn

from tests.api.threaded_server import ThreadedServer
from tests.draws import is_night
from tests.e2e.live import LiveServer
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.replica import Replica
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.transport.connection_guard import GuardedProtocol


@contextmanager
def served(path: Path, **settings: Any) -> Iterator[str]:
    """The address of `thirdeye serve`, which at a push is `served_here`. For tests that are
    `also_at_night`."""
    if not is_night():
        with served_here(path, **settings) as url:
            yield url
        return
    named = [str(path), "--served-model-name", "tiny"]
    server = LiveServer([*named, *(word for item in settings.items() for word in _flag(*item))])
    yield server.start().url
    assert server.stop() == 0, server.output


def _flag(name: str, value: Any) -> list[str]:
    """A setting's words in the command: a tuple's first value alone, for the tests have no more."""
    (value,) = value if isinstance(value, tuple) else (value,)
    return [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]


@contextmanager
def served_here(path: Path, **settings: Any) -> Iterator[str]:
    """Its address; the model is called `tiny`. One thread computes: it gains nothing from more."""
    here = {"engine": "thread", "threads": 1, "served_model_name": ("tiny",)}
    chosen = read_settings({"model": str(path), **here, **settings})
    replica = Replica(chosen, open_model(chosen.checkpoint), _no_process)
    how: dict[str, Any] = {"http": GuardedProtocol, "ws": "none", "access_log": False}
    server = ThreadedServer(
        uvicorn.Config(replica.app, port=0, lifespan="off", log_level="error", **how)
    )
    threads, port = torch.get_num_threads(), server.start()
    try:
        server.do(replica.start())
        torch.set_num_threads(threads)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.do(replica.close())
        server.stop()


def _no_process() -> Spawned:
    raise AssertionError("the engine is a thread")
