"""The engine process dies, hangs, fails to load, loses its parent: nobody waits for ever."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.api.support import eventually
from tests.engine.process.fake_worker import Recipe
from tests.engine.process.test_engines import WORKER, endings, long_request, start_process
from tests.engine.process.told_steps import SLOW, ToldSteps
from tests.engine.toy import collect, greedy_reference, make_request, tokens_of, until
from thirdeye.server.engine.interface.types import EngineDead, FinishReason
from thirdeye.server.engine.process.process_engine import ProcessEngine
from thirdeye.server.engine.process.spawn import spawn

ROOT = Path(__file__).parents[3]


def is_running(pid: int) -> bool:
    """Zombies, whose parent has not asked for their exit code, do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> ToldSteps:
    """Of `healthy`."""
    return ToldSteps(tmp_path_factory.mktemp("steps") / "told")


@pytest.fixture(scope="module")
def phases() -> list[tuple[str, int, int]]:
    """What is told while `healthy` loads."""
    return []


@pytest.fixture(scope="module")
def healthy(
    steps: ToldSteps, phases: list[tuple[str, int, int]]
) -> Iterator[tuple[asyncio.Runner, ProcessEngine]]:
    """For tests that leave it as it was, on the event loop of the server: uvloop insists on the
    right call for a Unix socket."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recipe = Recipe(told_file=str(steps.path))
        engine = runner.run(start_process(recipe, on_progress=lambda *p: phases.append(p)))
        yield runner, engine
        runner.run(engine.close())


def test_kill_ends_every_stream_with_an_error(tmp_path: Path) -> None:
    """kill -9 in a step of 16 streams, which would never end: each gets its one ERROR, and no
    zombie is left."""

    async def main() -> None:
        steps = ToldSteps(tmp_path / "told")
        engine = await start_process(Recipe(told_file=str(steps.path)))
        with steps.held():
            tasks = [
                asyncio.create_task(collect(engine, long_request(str(i), i + 1))) for i in range(16)
            ]
            await steps.until(lambda: engine.stats().num_requests_running == 16)
            os.kill(engine.pid, signal.SIGKILL)
            async with asyncio.timeout(SLOW):
                answers = await asyncio.gather(*tasks)
        for outputs in answers:
            assert endings(outputs) == [FinishReason.ERROR]
            assert "stopped" in (outputs[-1].error or "")
        assert not engine.is_alive
        assert engine.stats().num_requests_running == 0
        assert engine.stats().num_blocks_total > 0
        with pytest.raises(EngineDead, match="died"):
            await collect(engine, make_request())
        engine.abort("0")
        await engine.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(engine.pid, os.WNOHANG)

    asyncio.run(main())


def test_dying_in_a_step_is_the_same() -> None:
    async def main() -> None:
        engine = await start_process(Recipe(die_after_steps=3))
        assert endings(await collect(engine, long_request())) == [FinishReason.ERROR]
        await engine.close()

    asyncio.run(main())


def test_loading_reports_progress(
    healthy: tuple[asyncio.Runner, ProcessEngine], phases: list[tuple[str, int, int]]
) -> None:
    assert phases == [("weights", 5, 10), ("weights", 10, 10)]


# Of a process that ends while it loads nothing is seen but what it said before.
ENDS = """
import os, socket, sys
from thirdeye.server.engine.process.frames import pack_frame
from thirdeye.server.engine.process.messages import Progress
sock = socket.socket(fileno=int(sys.argv[-1]))
sock.recv(1 << 16)  # what it is to load
sock.sendall(pack_frame(Progress("weights", 5, 10)))
os._exit(77)
"""


def test_loading_reports_failure() -> None:
    async def main() -> None:
        with pytest.raises(EngineDead, match=r"no\.gguf"):
            await start_process(Recipe(load_error="no.gguf is not there"))
        phases: list[tuple[str, int, int]] = []
        with pytest.raises(EngineDead, match="code 77"):
            await ProcessEngine.start(
                spawn([sys.executable, "-c", ENDS]), b"", on_progress=lambda *p: phases.append(p)
            )
        assert phases == [("weights", 5, 10)]

    asyncio.run(main())


def test_giving_up_while_it_loads_leaves_no_process() -> None:
    before = children()

    async def main() -> None:
        starting = asyncio.create_task(start_process(Recipe(load_seconds=60)))
        await until(lambda: bool(children() - before))
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()

    asyncio.run(main())
    assert not [pid for pid in children() - before if is_running(pid)]


def children() -> set[int]:
    """Processes that this thread has started and not yet reaped."""
    return set(map(int, Path("/proc/thread-self/children").read_text().split()))


def test_a_step_that_hangs_is_killed_at_close() -> None:
    async def main() -> None:
        engine = await start_process(Recipe(step_seconds=60), close_timeout=0.2)
        task = asyncio.create_task(collect(engine, long_request()))
        await until(lambda: engine.stalled_seconds() > 0.1)
        async with asyncio.timeout(30):  # half of the step
            await engine.close()
        assert endings(await task) == [FinishReason.ABORT]
        assert not is_running(engine.pid)

    asyncio.run(main())


def test_streams_do_not_wait_for_the_step_that_is_closed_upon() -> None:
    """Whoever listens is told at once: a drain that is out of time has half a second for it."""

    async def main() -> None:
        engine = await start_process(Recipe(step_seconds=600), close_timeout=600)
        task = asyncio.create_task(collect(engine, long_request()))
        await until(lambda: engine.stalled_seconds() > 0.1)
        closing = asyncio.create_task(engine.close())
        async with asyncio.timeout(30):
            assert endings(await task) == [FinishReason.ABORT]
        assert not closing.done()
        engine.kill()
        await closing

    asyncio.run(main())


def test_it_ignores_the_signals_of_the_terminal(
    healthy: tuple[asyncio.Runner, ProcessEngine], steps: ToldSteps
) -> None:
    """Ctrl-C reaches the whole process group: running answers must survive to be drained."""
    runner, engine = healthy

    async def main() -> None:
        request = make_request(max_tokens=10)
        with steps.held():
            task = asyncio.create_task(collect(engine, request))
            await steps.until(lambda: engine.stats().num_requests_running == 1)
            os.kill(engine.pid, signal.SIGINT)
            os.kill(engine.pid, signal.SIGTERM)
        assert tokens_of(await task) == greedy_reference(request)

    runner.run(main())


def test_idle_costs_nothing(healthy: tuple[asyncio.Runner, ProcessEngine]) -> None:
    """No polling: at most one tick of the clock in a second, on both sides of the pipe.

    In some second soon: on a busy machine the first may hold the end of what was asked.
    """
    runner, engine = healthy

    async def main() -> None:
        await collect(engine, make_request())
        theirs = ours = 1.0
        async with asyncio.timeout(20):
            while theirs > 0.011 or ours > 0.02:
                before = cpu_seconds(engine.pid), time.process_time()
                await asyncio.sleep(1.0)
                theirs = cpu_seconds(engine.pid) - before[0]
                ours = time.process_time() - before[1]

    runner.run(main())


# Like a server it imports no torch, nor whoever makes recipes and requests: they come written down.
PARENT = """
import asyncio, sys
import msgspec
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.engine.process.process_engine import ProcessEngine
from thirdeye.server.engine.process.spawn import spawn
recipe, request, *worker = sys.argv[1:]
async def main():
    recipe_bytes = msgspec.msgpack.encode(msgspec.json.decode(recipe))
    engine = await ProcessEngine.start(spawn(worker), recipe_bytes)
    assert "torch" not in sys.modules
    print(engine.pid, flush=True)
    async for _ in engine.generate(msgspec.json.decode(request, type=Request)):
        pass
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "step_seconds",
    [
        pytest.param(0.0, marks=pytest.mark.prove, id="short steps"),
        pytest.param(60.0, id="in a long step"),
    ],
)
def test_it_never_outlives_its_parent(step_seconds: float, tmp_path: Path) -> None:
    """kill -9 of the server leaves no engine behind."""
    begun = tmp_path / "step"
    recipe = Recipe(step_seconds=step_seconds, step_file=str(begun))
    written = [msgspec.json.encode(recipe), msgspec.json.encode(long_request())]
    command = [sys.executable, "-c", PARENT, *written, *WORKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually(begun.exists)
        assert is_running(pid)
        parent.kill()
    eventually(lambda: not is_running(pid))
