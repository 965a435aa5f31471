"""The supervisor: who is started when, what is told meanwhile, and when it gives up."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.engine.process.fake_worker import Recipe
from tests.engine.process.test_engines import endings, long_request, start_process
from tests.engine.process.test_process_engine import children, is_running
from tests.engine.process.told_steps import SLOW
from tests.engine.toy import collect, make_request, tokens_of, toy_config, toy_info, until
from tests.oracles import virtual_time
from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.types import (
    EngineDead,
    EngineInfo,
    FinishReason,
    StepOutput,
)
from thirdeye.server.engine.process.engine_client import EngineClient
from thirdeye.server.engine.process.messages import Command, Step
from thirdeye.server.engine.process.supervised_engine import RestartPolicy, SupervisedEngine

INFO = toy_info(toy_config())


class Puppet(EngineClient):
    """An engine that answers each request with one token, and dies when told."""

    def __init__(self, info: EngineInfo = INFO, *, hangs: bool = False) -> None:
        super().__init__(info)
        self.is_closed = False
        self._hangs = hangs

    def _send(self, command: Command) -> None:
        if self._hangs or not hasattr(command, "request"):
            return
        output = StepOutput(
            request_id=command.request.request_id,
            token_ids=[7],
            finish_reason=FinishReason.LENGTH,
        )
        number = self._next_step
        stats = EngineStats(generation_tokens_total=number + 1, steps_total=number + 1)
        self.receive(Step(number, [output], msgspec.structs.replace(stats, num_blocks_total=64)))

    def kill(self) -> None:
        self.fail_all("The puppet is dead.")

    async def close(self) -> None:
        self.is_closed = True
        self.abort_all()


class Maker:
    """Starts engines as told, one after the other; remembers them."""

    def __init__(self, *plan: EngineInfo | Exception | asyncio.Event) -> None:
        self.plan = list(plan)
        self.made: list[Puppet] = []
        self.num_calls = 0

    async def __call__(self) -> Puppet:
        self.num_calls += 1
        step = self.plan.pop(0) if self.plan else INFO
        if isinstance(step, asyncio.Event):
            await step.wait()
            step = INFO
        if isinstance(step, Exception):
            raise step
        self.made.append(Puppet(step))
        return self.made[-1]


Scenario = Callable[[SupervisedEngine, "asyncio.Task[None]"], Coroutine[Any, Any, None]]


def supervise(maker: Maker, scenario: Scenario, policy: RestartPolicy | None = None) -> None:
    async def main() -> None:
        engine = await SupervisedEngine.start(maker, policy)
        task = asyncio.create_task(engine.supervise())
        await asyncio.sleep(0)
        await scenario(engine, task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


class Adaptable(Puppet):
    """Loads what it is told, but for `broken`."""

    def __init__(self) -> None:
        super().__init__(INFO)
        self.adapters: list[str] = []

    async def load_adapter(self, source: AdapterSource) -> AdapterReport:
        if source.path == "broken":
            return AdapterReport(number=source.number, error="is broken.")
        self.adapters.append(source.path)
        return AdapterReport(number=source.number)


def test_the_next_engine_has_the_adapters_of_the_one_before() -> None:
    """Those that are still loaded, before it is asked anything."""
    made: list[Adaptable] = []

    async def start() -> Adaptable:
        made.append(Adaptable())
        return made[-1]

    async def main() -> None:
        engine = await SupervisedEngine.start(start)
        task = asyncio.create_task(engine.supervise())
        for number, path in enumerate(("a", "b", "broken", "c"), 1):
            await engine.load_adapter(AdapterSource(number, path))
        engine.unload_adapter(2)
        made[0].kill()
        await until(lambda: engine.is_alive)
        assert [one.adapters for one in made] == [["a", "b", "c"], ["a", "c"]]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()

    asyncio.run(main())


def test_it_comes_back_as_the_same_engine() -> None:
    """While it is down its return is announced; then it answers, and counts where it left off."""
    loaded = asyncio.Event()
    maker = Maker(INFO, loaded)

    async def scenario(engine: SupervisedEngine, _: "asyncio.Task[None]") -> None:
        assert tokens_of(await collect(engine, make_request("a"))) == [7]
        assert engine.restart_eta is None
        maker.made[0].kill()
        assert not engine.is_alive
        assert engine.restart_eta is not None
        await until(lambda: maker.num_calls == 2)
        with pytest.raises(EngineDead):
            await collect(engine, make_request("b"))
        assert engine.restart_eta is not None
        assert engine.info == INFO
        loaded.set()
        await until(lambda: engine.is_alive)
        assert engine.restart_eta is None
        assert tokens_of(await collect(engine, make_request("b"))) == [7]
        assert engine.stats().generation_tokens_total == 2
        assert engine.stats().num_blocks_total == 64

    supervise(maker, scenario)


def test_the_fifth_death_within_a_minute_is_the_last() -> None:
    maker = Maker()

    async def scenario(engine: SupervisedEngine, task: "asyncio.Task[None]") -> None:
        for count in range(1, 6):
            assert engine.is_alive
            maker.made[-1].kill()
            await until(lambda n=count: len(maker.made) == n + 1 or task.done())  # type: ignore[misc]
            await asyncio.sleep(0)
        with pytest.raises(EngineDead, match=r"died 5 times within 60 s.*puppet"):
            await task
        assert (len(maker.made), engine.is_alive, engine.restart_eta) == (5, False, None)

    supervise(maker, scenario)


def test_deaths_that_are_far_apart_are_forgiven() -> None:
    """A minute of service, by its own clock, makes an old death not count."""
    maker = Maker()

    async def main() -> None:
        now = 0.0
        engine = SupervisedEngine(await maker(), maker, RestartPolicy(), 1.0, lambda: now)
        task = asyncio.create_task(engine.supervise())
        await asyncio.sleep(0)
        for count in range(1, 21):
            now += 16  # the fifth death is 64 s after the first
            maker.made[-1].kill()
            await until(lambda n=count: len(maker.made) == n + 1)  # type: ignore[misc]
            await until(lambda: engine.is_alive)
        assert not task.done()
        await engine.close()
        await task

    asyncio.run(main())


def test_an_engine_that_cannot_be_loaded_again_is_given_up() -> None:
    """However long each try takes: loading is no time of service."""
    broken = EngineDead("The file is gone.")
    maker = Maker(INFO, broken, broken, broken, broken)

    async def scenario(engine: SupervisedEngine, task: "asyncio.Task[None]") -> None:
        maker.made[0].kill()
        with pytest.raises(EngineDead, match="file is gone"):
            await task
        assert maker.num_calls == 5

    supervise(maker, scenario)


def test_a_load_that_fails_once_is_tried_again() -> None:
    maker = Maker(INFO, EngineDead("No memory just now."))

    async def scenario(engine: SupervisedEngine, _: "asyncio.Task[None]") -> None:
        maker.made[0].kill()
        await until(lambda: engine.is_alive)
        assert maker.num_calls == 3

    supervise(maker, scenario)


def test_another_engine_does_not_take_its_place() -> None:
    """Limits and fingerprint were promised for the first; fewer KV blocks are still the same."""
    fewer = msgspec.structs.replace(INFO, num_blocks=INFO.num_blocks - 1)
    other = msgspec.structs.replace(INFO, max_model_len=INFO.max_model_len - 1)
    maker = Maker(INFO, fewer, other)

    async def scenario(engine: SupervisedEngine, task: "asyncio.Task[None]") -> None:
        maker.made[0].kill()
        await until(lambda: engine.is_alive)
        maker.made[1].kill()
        with pytest.raises(EngineDead, match="another"):
            await task
        assert maker.made[2].is_closed

    supervise(maker, scenario)


def test_the_engine_of_this_process_is_not_replaced() -> None:
    """`max_deaths=1`: the first death is final, and its own reason is told."""
    maker = Maker()

    async def scenario(engine: SupervisedEngine, task: "asyncio.Task[None]") -> None:
        maker.made[0].kill()
        with pytest.raises(EngineDead, match=r"^The puppet is dead\.$"):
            await task

    supervise(maker, scenario, RestartPolicy(max_deaths=1))


def test_an_engine_stuck_in_a_step_is_killed() -> None:
    """Its requests end with ERROR, and the next engine serves; an idle engine is left alone."""

    async def main() -> None:
        made: list[Puppet] = []

        async def start() -> Puppet:
            made.append(Puppet(hangs=not made))
            return made[-1]

        engine = await SupervisedEngine.start(start, RestartPolicy(step_timeout=0.1))
        task = asyncio.create_task(engine.supervise())
        await asyncio.sleep(60)
        assert engine.is_alive
        outputs = await collect(engine, make_request())
        assert endings(outputs) == [FinishReason.ERROR]
        await until(lambda: engine.is_alive)
        assert tokens_of(await collect(engine, make_request())) == [7]
        await engine.close()
        await task
        assert len(made) == 2

    virtual_time.run(main())


def test_closing_in_the_middle_of_a_restart_leaves_nothing() -> None:
    """Whichever comes first, the end of the load or the end of the supervisor."""
    loaded = asyncio.Event()
    maker = Maker(INFO, loaded)

    async def scenario(engine: SupervisedEngine, task: "asyncio.Task[None]") -> None:
        maker.made[0].kill()
        await until(lambda: maker.num_calls == 2)
        await engine.close()
        loaded.set()
        await task
        assert maker.made[1].is_closed
        assert engine.restart_eta is None

    supervise(maker, scenario)


class Closing(Puppet):
    """It waits for its running step when it is closed, which does not end."""

    async def close(self) -> None:
        self.is_closed = True
        await asyncio.Event().wait()


def test_ending_the_supervisor_while_it_closes_an_engine_leaves_nothing() -> None:
    began, loaded, made = asyncio.Event(), asyncio.Event(), [Puppet(), Closing()]
    left = iter(made)

    async def start() -> Puppet:
        one = next(left)
        if one is made[1]:
            began.set()
            await loaded.wait()
        return one

    async def main() -> None:
        engine = await SupervisedEngine.start(start)
        task = asyncio.create_task(engine.supervise())
        made[0].kill()
        await began.wait()
        await engine.close()
        loaded.set()
        await until(lambda: made[1].is_closed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not made[1].is_alive

    asyncio.run(main())


def test_a_real_process_is_replaced_and_none_is_left(tmp_path: Path) -> None:
    """Twice killed, twice back; a third that is still loading when it is all over goes too."""
    before = children()

    async def main() -> None:
        recipe = Recipe(step_seconds=600)  # however late this looks, nobody has ended
        made = []

        def begun() -> Path:
            """There as soon as the engine made last computes a step."""
            return tmp_path / str(len(made))

        async def start():  # type: ignore[no-untyped-def]
            recipe.step_file = str(tmp_path / str(len(made) + 1))
            made.append(await start_process(recipe))
            return made[-1]

        engine = await SupervisedEngine.start(start)
        task = asyncio.create_task(engine.supervise())
        for recipe.step_seconds in (600, 0):  # of the one that comes next
            streams = [asyncio.create_task(collect(engine, long_request(str(i)))) for i in range(4)]
            await until(begun().exists, SLOW)
            made[-1].kill()
            for outputs in await asyncio.gather(*streams):
                assert endings(outputs) == [FinishReason.ERROR]
            await until(lambda: made[-1].is_alive and engine.is_alive, SLOW)
        assert endings(await collect(engine, long_request())) == [FinishReason.LENGTH]
        recipe.load_seconds = 60
        made[-1].kill()
        known = {engine.pid for engine in made}
        await until(lambda: bool(children() - before - known), SLOW)
        task.cancel()
        await asyncio.wait([task])
        await engine.close()

    asyncio.run(main())
    assert not [pid for pid in children() - before if is_running(pid)]
