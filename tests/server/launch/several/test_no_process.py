"""Between an engine's process and whoever looks after it nothing may get lost: what fails there,
for want of memory or threads, ends the process and says so."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.spawn import Spawned, spawn
from thirdeye.server.launch import start_engine
from thirdeye.server.launch.several.giving_way import may_take_back

GIVING_WAY: start_engine.GivingWay = nullcontext
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def started(spawned: list[Spawned]) -> Callable[[], Spawned]:
    def start() -> Spawned:
        spawned.append(spawn(SLEEPER))
        return spawned[-1]

    return start


def start(spawned: list[Spawned]) -> None:
    recipe: Any = {}
    start_engine_ = start_engine.start_process(
        recipe, lambda *_: None, started(spawned), GIVING_WAY
    )
    asyncio.run(start_engine_)


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(28, "No space left"), RuntimeError("no thread")], ids=repr
)
@pytest.mark.parametrize("where", ["priority", "pipe"])
def test_a_process_that_cannot_be_spoken_to_ends(
    error: Exception, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    if where == "priority":
        monkeypatch.setattr(sys.modules[__name__], "GIVING_WAY", fail)
    else:
        monkeypatch.setattr(asyncio, "open_unix_connection", fail)
    spawned: list[Spawned] = []
    with pytest.raises(type(error)):
        start(spawned)
    assert spawned[0].process.returncode is not None
    assert spawned[0].sock.fileno() == -1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), "temporarily unavailable"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("can't start new thread"), "start new thread"),
    ],
)
def test_a_fork_that_fails_is_said(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(EngineDead, match=f"cannot be started: .*{said}"):
        start([])


def test_no_thread_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert not may_take_back()


class LoadedEngine:
    """As `SupervisedEngine.start` gives it."""

    info: Any = None
    is_alive = True
    num_closes = 0

    async def close(self) -> None:
        self.num_closes += 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug"), asyncio.CancelledError()])
def test_an_engine_that_nobody_can_serve_is_closed(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, settings, opened = LoadedEngine(), Any, Any

    async def start_engine_(*_: object) -> Any:
        return loaded

    async def serve(*_: object) -> Any:
        raise error

    monkeypatch.setattr(start_engine, "start_engine", start_engine_)
    monkeypatch.setattr(start_engine, "write_recipe", lambda *_: None)
    engine = start_engine.ModelEngine(settings, opened, ServerState(), lambda: spawn(SLEEPER))
    monkeypatch.setattr(engine, "_served_by", serve)
    with pytest.raises(type(error)):
        asyncio.run(engine.start())
    assert loaded.num_closes == 1


@pytest.mark.parametrize("is_beside", [True, False])
def test_one_that_ends_beside_others_gives_way(
    monkeypatch: pytest.MonkeyPatch, is_beside: bool
) -> None:
    behind: list[int] = []
    monkeypatch.setattr(start_engine, "leave_behind", behind.append)
    settings, opened = Any, Any
    engine = start_engine.ModelEngine(
        settings, opened, ServerState(), lambda: spawn(SLEEPER), are_others_asked=lambda: is_beside
    )
    loaded: Any = LoadedEngine()
    engine._engine, engine.pid = loaded, 77
    asyncio.run(engine.stop())
    assert (behind, loaded.num_closes) == ([77] * is_beside, 1)


def test_the_pipe_s_end_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that dies while it loads was ended by whoever spoke to it: no second end harms."""
    spawned: list[Spawned] = []
    monkeypatch.setattr(sys.modules[__name__], "SLEEPER", [sys.executable, "-c", "pass"])
    with pytest.raises(EngineDead, match="ended with code"):
        start(spawned)
    assert spawned[0].process.returncode == 0
