"""The process of a flooded model comes behind, for as long as another is asked; in virtual time."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.api.pool.fakes import FakeLoadable, member
from tests.api.pool.test_model_pool import ask, settle
from tests.oracles.virtual_time import run
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.launch.several.crowds import LINGER
from thirdeye.server.launch.several.giving_way import Priority
from thirdeye.server.launch.several.load_priorities import LoadPriorities
from thirdeye.server.launch.several.precedence import PATIENCE, Precedence


@dataclass
class Process:
    pid: int | None


@dataclass
class Loading:
    pid: int = 7
    returncode: int | None = None


class Machine:
    """Two models, `a` and `b`, both loaded, and which of their processes are lowered."""

    def __init__(self) -> None:
        made = [member(name) for name in "ab"]
        self.pool = ModelPool([one for one, _ in made], 2)
        self.loadables: dict[str, FakeLoadable] = {one.name: loadable for one, loadable in made}
        self.processes = {"a": Process(1), "b": Process(2)}
        self.told: list[tuple[str, int]] = []
        self.placed: list[Priority] = []
        self.loads = LoadPriorities(lambda _, priority: self.placed.append(priority))
        self.pool.on_change = Precedence(
            self.pool,
            self.processes,
            self.loads,
            lambda pid: self.told.append(("lower", pid)),
            lambda pid: self.told.append(("restore", pid)),
        ).look

    async def flood(self, end: ExitStack, number: int = 8) -> None:
        await asyncio.gather(*(ask(self.pool, "a", end) for _ in range(number)))


def test_a_flooded_model_comes_behind_once_another_is_asked() -> None:
    async def main() -> None:
        machine = Machine()
        with ExitStack() as flood:
            await machine.flood(flood)
            assert not machine.told
            for _ in range(3):  # one answer after the other, and no moment without precedence
                with ExitStack() as one:
                    await ask(machine.pool, "b", one)
                    assert machine.pool.behind == {"a"}
                assert machine.told == [("lower", 1)]
            await asyncio.sleep(2 * LINGER)
            assert machine.told == [("lower", 1), ("restore", 1)]
            assert not machine.pool.behind
        await machine.pool.close()

    run(main())


def test_who_starves_gives_way_to_nobody_until_its_step_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        machine = Machine()
        engine = machine.loadables["a"].engine
        stalled = 0.0
        monkeypatch.setattr(engine, "stalled_seconds", lambda: stalled)
        with ExitStack() as end:
            await machine.flood(end)
            await ask(machine.pool, "b", end)
            assert machine.told == [("lower", 1)]
            stalled = PATIENCE + 0.1
            await asyncio.sleep(1.5 * LINGER)  # nobody comes and nobody goes
            assert machine.told == [("lower", 1), ("restore", 1)]
            stalled = 0.0
            await asyncio.sleep(LINGER)
            assert machine.told[2:] == [("lower", 1)]
        await machine.pool.close()

    run(main())


def test_an_engine_that_comes_back_comes_behind_too() -> None:
    async def main() -> None:
        machine = Machine()
        engine = machine.loadables["a"].engine
        with ExitStack() as end:
            await machine.flood(end)
            await ask(machine.pool, "b", end)
            machine.processes["a"].pid = 3
            await ask(machine.pool, "a", end)
            assert machine.told == [("lower", 1), ("lower", 3)]
            engine.die()  # what has its number now is left alone
            await ask(machine.pool, "a", end)
        assert machine.told == [("lower", 1), ("lower", 3)]
        await settle()
        await machine.pool.close()

    run(main())


def test_a_load_gives_way_to_another_that_is_asked_and_not_to_one_that_is_idle() -> None:
    async def main() -> None:
        machine = Machine()
        with ExitStack() as end:
            await asyncio.gather(ask(machine.pool, "a", end), ask(machine.pool, "b", end))
        with machine.loads.loading("a", Loading()), machine.loads.loading("c", Loading()):
            assert not machine.placed, "both are loaded, and nobody asks them"
            with ExitStack() as end:
                await ask(machine.pool, "a", end)
                assert machine.placed == [Priority.IDLE], "c's, and a's own gives way to nobody"
            await asyncio.sleep(1)
            assert machine.placed == [Priority.IDLE, Priority.NORMAL]
            machine.loadables["a"].engine.die()  # its number of requests is nobody's work
            with ExitStack() as end:
                await ask(machine.pool, "a", end)
            assert machine.placed == [Priority.IDLE, Priority.NORMAL]
        await machine.pool.close()

    run(main())
