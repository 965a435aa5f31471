"""The engine's process is told what to load before the web framework is there, if that is plain."""

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.server.launch.engine_process.test_spawner import WAITS
from tests.tiny import tiny_llama
from thirdeye.server.engine.process.process_engine import ProcessEngine, tell_ahead
from thirdeye.server.engine.process.spawn import Spawned, spawn
from thirdeye.server.launch import start_engine
from thirdeye.server.launch.ahead import open_ahead
from thirdeye.server.launch.server_run import prepare
from thirdeye.server.launch.spawner import EngineSpawner
from thirdeye.server.launch.start_engine import write_recipe


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(found)
    return found


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> EngineSpawner:
    """Its children end at the first byte that they are told."""
    monkeypatch.setattr(EngineSpawner, "_spawn", lambda self: spawn(WAITS))
    return EngineSpawner()


def test_one_model_is_opened_and_told(path: Path, spawner: EngineSpawner) -> None:
    options = {"model": str(path), "device": "cpu"}
    with spawner:
        spawner.start_ahead()
        ahead = open_ahead(options, spawner)
        assert ahead is not None
        child = spawner()
        assert child.process.wait(60) == 0
        child.kill()
    recipe = write_recipe(ahead.settings, ahead.opened)
    assert child.recipe == msgspec.msgpack.encode(recipe)
    replica = prepare(ahead.settings, options, spawner, ahead)
    assert getattr(replica, "opened", None) is ahead.opened, "it is not opened twice"


@pytest.mark.parametrize(
    "more",
    [
        {"engine": "thread"},
        {"verify": True},
        {"model": "named=/models/other.gguf"},
        {"model": "/nowhere"},
        {"device": "abacus"},
        {"more_models": ("other",)},
    ],
)
def test_what_is_more_or_wrong_is_left_to_whoever_says_so(
    path: Path, spawner: EngineSpawner, more: dict[str, Any]
) -> None:
    with spawner:
        spawner.start_ahead()
        assert open_ahead({"model": str(path), "device": "cpu", **more}, spawner) is None
        assert spawner.ahead is not None
        assert spawner.ahead.recipe is None


def test_a_child_that_is_gone_is_told_nothing() -> None:
    child = spawn(WAITS)
    child.process.kill()
    child.process.wait()
    tell_ahead(child, b"recipe")
    child.kill()


@pytest.mark.parametrize("told", [b"other", None])
def test_a_child_that_loads_something_else_is_not_taken(
    path: Path, spawner: EngineSpawner, monkeypatch: pytest.MonkeyPatch, told: bytes | None
) -> None:
    ahead = open_ahead({"model": str(path), "device": "cpu"}, spawner)
    assert ahead is not None
    taken: list[Spawned] = []

    async def start(spawned: Spawned, *_: Any) -> None:
        taken.append(spawned)

    monkeypatch.setattr(ProcessEngine, "start", start)
    with spawner:
        spawner.start_ahead()
        child = spawner.ahead
        assert child is not None
        child.recipe = told
        recipe = write_recipe(ahead.settings, ahead.opened)
        asyncio.run(
            start_engine.start_process(recipe, lambda *_: None, spawner, nullcontext)  # type: ignore[arg-type]
        )
    assert (taken[0] is child) == (told is None)
    assert (child.process.poll() is not None) == (told is not None)
    taken[0].kill()
