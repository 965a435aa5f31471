"""One suite over every engine: what the layers above may rely on, whichever is behind the
protocol."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.engine.process.fake_engine import FakeEngine
from tests.engine.process.fake_worker import Recipe, SlowModel
from tests.engine.process.told_steps import SLOW, ToldSteps
from tests.engine.toy import (
    EOS,
    collect,
    greedy_reference,
    make_request,
    tokens_of,
    toy_config,
    toy_core,
    toy_info,
    until,
)
from thirdeye.server.engine.interface.pooling import unit_vector
from thirdeye.server.engine.interface.step_record import RowKind, StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
)
from thirdeye.server.engine.process.process_engine import ProcessEngine
from thirdeye.server.engine.process.spawn import spawn
from thirdeye.server.engine.process.thread_engine import ThreadEngine

WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]


async def start_process(recipe: Recipe, **options: Any) -> ProcessEngine:
    return await ProcessEngine.start(spawn(WORKER), msgspec.msgpack.encode(recipe), **options)


async def make_fake(steps: ToldSteps) -> Engine:
    return FakeEngine(greedy_reference, eos_token_ids=[EOS], gate=steps)


async def make_thread(steps: ToldSteps) -> Engine:
    config = toy_config()
    core = toy_core(config, SlowModel(Recipe(told_file=str(steps.path))))
    return ThreadEngine(core, toy_info(config))


async def make_process(steps: ToldSteps) -> Engine:
    return await start_process(Recipe(told_file=str(steps.path)))


Make = Callable[[ToldSteps], Coroutine[Any, Any, Engine]]
Run = Callable[[Callable[[Engine], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=[make_fake, make_thread, make_process], scope="module")
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]  # a fixture's parameter is untyped


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> ToldSteps:
    """Of all engines here, which are asked one after the other."""
    return ToldSteps(tmp_path_factory.mktemp("steps") / "told")


@pytest.fixture(scope="module")
def run(make: Make, steps: ToldSteps) -> Iterator[Run]:
    """Runs a test with the engine that all tests of a kind share: a process takes long to start.

    After each test the engine has nothing to do, and no task of the test is left.
    """
    with asyncio.Runner() as runner:
        engine = runner.get_loop().run_until_complete(make(steps))
        tasks = asyncio.all_tasks(runner.get_loop())

        async def test(main: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
            await main(engine)
            await until(lambda: engine.stats().num_requests_running == 0)
            assert engine.stats().num_blocks_used == 0
            left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
            assert not left, left

        yield lambda main: runner.run(test(main))
        runner.run(engine.close())


def endings(outputs: list[StepOutput]) -> list[FinishReason]:
    return [o.finish_reason for o in outputs if o.finish_reason is not None]


def long_request(name: str = "long", i: int = 1) -> Request:
    return make_request(name, [i, i, i], max_tokens=100, ignore_eos=True)


def test_generate(run: Run) -> None:
    async def main(engine: Engine) -> None:
        assert engine.is_alive
        before = engine.stats().generation_tokens_total
        request = make_request(max_tokens=10, logprobs=2)
        outputs = await collect(engine, request)
        assert tokens_of(outputs) == greedy_reference(request)
        assert endings(outputs) == [outputs[-1].finish_reason]
        assert outputs[-1].timings is not None
        assert all(len(o.logprobs or []) == len(o.token_ids) for o in outputs)
        await until(lambda: engine.stats().num_requests_running == 0)
        assert engine.stats().generation_tokens_total == before + len(tokens_of(outputs))

    run(main)


def test_many_at_once_each_get_their_own(run: Run) -> None:
    async def main(engine: Engine) -> None:
        requests = [make_request(str(i), [i + 1, 2, 3], max_tokens=20) for i in range(32)]
        answers = await asyncio.gather(*(collect(engine, r) for r in requests))
        for request, outputs in zip(requests, answers, strict=True):
            assert {o.request_id for o in outputs} == {request.request_id}
            assert tokens_of(outputs) == greedy_reference(request)

    run(main)


def test_abort_gives_one_last_output(run: Run, steps: ToldSteps) -> None:
    async def main(engine: Engine) -> None:
        engine.abort("nobody")
        outputs: list[StepOutput] = []

        async def answer() -> None:
            async for output in engine.generate(long_request()):
                outputs.append(output)
                engine.abort("long")

        with steps.held():
            task = asyncio.create_task(answer())
            await steps.until(task.done)
        await task
        assert endings(outputs) == [FinishReason.ABORT]
        assert len(tokens_of(outputs)) < 100
        assert await collect(engine, make_request("next", max_tokens=2))

    run(main)


def test_leaving_early_frees_everything(run: Run, steps: ToldSteps) -> None:
    """A client that goes away: nothing runs, no block is held, and not because the answer was
    complete."""

    async def main(engine: Engine) -> None:
        def is_running() -> bool:
            return engine.stats().num_requests_running == 1

        before = engine.stats().generation_tokens_total
        with steps.held():
            stream = engine.generate(long_request())
            first = asyncio.ensure_future(anext(stream))
            await steps.until(first.done)
            assert is_running()
            await stream.aclose()  # type: ignore[attr-defined]  # all are generators
            await steps.until(lambda: not is_running())
            assert engine.stats().num_blocks_used == 0
            assert engine.stats().generation_tokens_total < before + 100

            task = asyncio.create_task(collect(engine, long_request()))
            await steps.until(is_running)
            task.cancel()
            await asyncio.wait([task])
            await steps.until(lambda: not is_running())
            assert engine.stats().num_blocks_used == 0
            assert engine.stats().generation_tokens_total < before + 200

    run(main)


def test_close_ends_running_requests_watchers_and_looks_inside(make: Make, tmp_path: Path) -> None:
    """Each request with an abort, each watcher behind the last record, and each viewer with a last
    trace and its reason; afterwards nothing of any kind is begun."""

    async def main() -> None:
        steps = ToldSteps(tmp_path / "told")
        engine = await make(steps)

        async def follow() -> list[StepRecord]:
            return [record async for record in engine.watch()]

        watching = asyncio.create_task(follow())
        await collect(engine, make_request(max_tokens=3, ignore_eos=True))
        stream = engine.inspect(look(num_layers=100_000))
        await anext(stream)
        looking = asyncio.create_task(rest_of(stream))
        with steps.held():
            tasks = [
                asyncio.create_task(collect(engine, long_request(str(i), i + 1))) for i in range(3)
            ]
            await steps.until(lambda: engine.stats().num_requests_running == 3)
            closing = asyncio.create_task(engine.close())
            await asyncio.sleep(0)  # the engine is told; one in a thread waits for its step
        await closing
        for outputs in await asyncio.gather(*tasks):
            assert endings(outputs) == [FinishReason.ABORT]
            assert outputs[-1].finish_reason is FinishReason.ABORT
        async with asyncio.timeout(SLOW):
            assert len(await watching) >= 3
            last = (await looking)[-1]
        assert last.is_last
        assert last.error is not None
        assert not engine.is_alive
        assert engine.stats().num_requests_running == 0
        for begin in (collect(engine, long_request()), follow(), traces_of(engine, look())):
            with pytest.raises(EngineDead, match="closed"):
                await begin
        await engine.close()

    asyncio.run(main())


def test_watching_tells_of_each_step(run: Run) -> None:
    """First the steps that are remembered, then new ones, until the watcher leaves."""

    async def main(engine: Engine) -> None:
        await collect(engine, make_request("before", max_tokens=2, ignore_eos=True))
        records: list[StepRecord] = []

        async def follow(since: int) -> None:
            async for record in engine.watch(since):
                records.append(record)  # noqa: PERF401 (as they come)

        def seen(name: str) -> int:
            return sum(row.request_id == name for record in records for row in record.rows)

        task = asyncio.create_task(follow(0))
        await until(lambda: seen("before") >= 2)
        await collect(engine, make_request("while", max_tokens=5, ignore_eos=True))
        await until(lambda: seen("while") == 5)
        task.cancel()
        await asyncio.wait([task])
        steps = [record.step for record in records]
        assert steps == list(range(steps[0], steps[0] + len(steps)))
        prompt = next(row for r in records for row in r.rows if row.request_id == "while")
        assert (prompt.num_tokens, prompt.kind) == (3, RowKind.PREFILL)

        await collect(engine, make_request("unseen", max_tokens=2, ignore_eos=True))
        records.clear()
        again = asyncio.create_task(follow(steps[-1]))
        await until(lambda: seen("unseen") == 2)
        assert records[0].step == steps[-1]
        again.cancel()
        await asyncio.wait([again])

    run(main)


def look(name: str = "look", num_layers: int = 3) -> TraceRequest:
    return TraceRequest(
        request_id=name, token_ids=[5, 6], layers=list(range(num_layers)), arrays=["pattern"],
        lens_positions=[1], num_top=1,
    )  # fmt: skip


async def traces_of(engine: Engine, request: TraceRequest) -> list[Trace]:
    return await rest_of(engine.inspect(request))


async def rest_of(stream: AsyncIterator[Trace]) -> list[Trace]:
    return [trace async for trace in stream]


def test_looking_inside_gives_each_layer_and_one_last_trace(run: Run) -> None:
    """Beside a running request, two at a time, each reader gets its own."""

    async def main(engine: Engine) -> None:
        running = asyncio.create_task(collect(engine, make_request(max_tokens=20)))
        found = await asyncio.gather(*(traces_of(engine, look(name)) for name in ("a", "b")))
        for name, traces in zip(("a", "b"), found, strict=True):
            assert {trace.request_id for trace in traces} == {name}
            assert [trace.layer for trace in traces] == [0, 1, 2, -1]
            assert [trace.is_last for trace in traces] == [False, False, False, True]
            assert all(t.arrays["pattern"].shape[1:] == [2, 2] for t in traces[:-1])
            assert traces[-1].error is None
            assert len(traces[-1].lens) == 1
        assert tokens_of(await running) == greedy_reference(make_request(max_tokens=20))

    run(main)


def test_watching_tells_of_looks_inside(run: Run) -> None:
    """By the name that the viewer knows; nobody else need be at work."""

    async def main(engine: Engine) -> None:
        async def wait_for(name: str) -> None:
            records = cast("AsyncGenerator[StepRecord, None]", engine.watch())
            async with aclosing(records):
                async for record in records:
                    if record.inspected == name:
                        return

        task = asyncio.create_task(wait_for("watched"))
        await traces_of(engine, look("watched"))
        async with asyncio.timeout(SLOW):
            await task

    run(main)


def test_a_viewer_that_leaves_ends_the_work(run: Run) -> None:
    async def main(engine: Engine) -> None:
        stream = engine.inspect(look(num_layers=100_000))
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # all are generators
        assert len(await traces_of(engine, look("next"))) == 4

    run(main)


def test_an_embedding_ends_with_its_vector(run: Run) -> None:
    """Through every border it crosses: the last output has it, and no token comes."""

    async def test(engine: Engine) -> None:
        request = Request(
            request_id="embedding",
            prompt_token_ids=[3, 4, 5],
            sampling=SamplingParams(max_tokens=0),
            is_embedding=True,
        )
        outputs = await collect(engine, request)
        assert tokens_of(outputs) == []
        assert outputs[-1].finish_reason is FinishReason.LENGTH
        vector = outputs[-1].embedding or []
        wanted = [3, 12] if isinstance(engine, FakeEngine) else [12, 3]
        assert vector == unit_vector(wanted)

    run(test)


def test_what_is_taken_does_not_come_out_and_the_last_output_always_does(run: Run) -> None:
    """Every other output goes past the iterator; together they are the answer, in order."""

    async def main(engine: Engine) -> None:
        seen: list[StepOutput] = []
        asked = 0

        def take(output: StepOutput) -> bool:
            nonlocal asked
            asked += 1
            assert output.finish_reason is None, "the last output is the iterator's"
            if asked % 2:
                seen.append(output)
            return bool(asked % 2)

        request = make_request(max_tokens=12, ignore_eos=True)
        num_came = 0
        async for output in engine.generate(request, take):
            num_came += 1
            seen.append(output)
        assert tokens_of(seen) == greedy_reference(request)
        assert num_came < len(seen)
        assert endings(seen) == [FinishReason.LENGTH]

    run(main)


def test_a_bug_behind_take_ends_its_own_answer_alone(run: Run) -> None:
    """It happens in the call that serves all streams of a step: the others must not see it."""

    async def main(engine: Engine) -> None:
        def take(output: StepOutput) -> bool:
            raise ZeroDivisionError(output.request_id)

        async def broken() -> None:
            async for _ in engine.generate(long_request("broken"), take):
                pass

        request = make_request("whole", [4, 5], max_tokens=20)
        whole = asyncio.create_task(collect(engine, request))
        with pytest.raises(ZeroDivisionError, match="broken"):
            await broken()
        assert tokens_of(await whole) == greedy_reference(request)
        await until(lambda: engine.stats().num_requests_running == 0)
        assert engine.stats().num_blocks_used == 0

    run(main)


def test_a_prefix_that_is_forgotten_is_computed_anew(run: Run) -> None:
    async def main(engine: Engine) -> None:
        async def num_cached(name: str) -> int:
            request = make_request(name, [1, 2, 3] * 6, max_tokens=2, ignore_eos=True)
            return max(output.num_cached_tokens for output in await collect(engine, request))

        await num_cached("first")
        assert await num_cached("second") > 0 or isinstance(engine, FakeEngine)
        engine.reset_prefix_cache()
        assert await num_cached("third") == 0
        assert await num_cached("fourth") > 0 or isinstance(engine, FakeEngine)

    run(main)
