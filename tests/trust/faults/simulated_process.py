"""An engine's process that is none: a task with a socket's two ends in memory, and a `kill`.

The server's side of it is the real one (`Child`, `ProcessEngine`), and what crosses are the real
frames, cut where a crash cuts them.
"""

import asyncio
from typing import Any

import msgspec

from tests.api.support import VOCAB_SIZE
from tests.engine.process.fake_engine import fake_info
from tests.trust.faults.broken_engine import CONFIG, NoEnd, broken_core
from tests.trust.faults.schedules import EngineLife
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.engine_loop import execute
from thirdeye.server.engine.process.frames import LENGTH, pack_frame
from thirdeye.server.engine.process.messages import (
    Fatal,
    FromEngine,
    Progress,
    Ready,
    Step,
    ToEngine,
)
from thirdeye.server.engine.process.process_engine import Child, ProcessEngine

STEP_SECONDS = 0.1
INFO = fake_info(
    vocab_size=VOCAB_SIZE, max_model_len=CONFIG.max_model_len, max_num_seqs=CONFIG.max_num_seqs
)


class SimulatedProcess:
    """To `Child` it is the process, the reader's source and the writer."""

    def __init__(self, life: EngineLife) -> None:
        self._life = life
        self._loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader()
        self.transport = self
        self.returncode: int | None = None
        self.is_reaped = self.is_closed = False
        self.bugs: list[BaseException] = []
        self._pending = b""
        self._commands: asyncio.Queue[ToEngine | None] = asyncio.Queue()
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._due = [0.0, 0.0]  # when the last message of each way arrives: none overtakes another
        self._num_messages = 0
        self._task = asyncio.create_task(self._run(), name="simulated-process")

    # --- what the server's side does ---

    def write(self, data: bytes) -> None:
        self._deliver(0, lambda: self._take(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True
        self.kill()

    async def wait_closed(self) -> None: ...

    def kill(self) -> None:
        self._end(-9)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        assert self.returncode is not None, "somebody would block on a process that runs"
        self.is_reaped = True
        return self.returncode

    # --- what the process does ---

    def _deliver(self, way: int, arrive: Any) -> None:
        delays = self._life.pipe_delays
        delay = delays[self._num_messages % len(delays)]
        self._num_messages += 1
        self._due[way] = max(self._due[way], self._loop.time() + delay)
        self._loop.call_at(self._due[way], arrive)

    def _take(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= LENGTH.size:
            (size,) = LENGTH.unpack(self._pending[: LENGTH.size])
            end = LENGTH.size + size
            if len(self._pending) < end:
                return
            self._commands.put_nowait(self._decoder.decode(self._pending[LENGTH.size : end]))
            self._pending = self._pending[end:]

    def _send(self, message: FromEngine) -> None:
        frame = pack_frame(message)
        self._deliver(1, lambda: self._feed(frame))

    def _feed(self, frame: bytes) -> None:
        if self.returncode is None:
            self.reader.feed_data(frame)

    def _end(self, code: int) -> None:
        """As `os._exit`: what was not on the pipe yet is lost, in the middle of a frame perhaps."""
        if self.returncode is not None:
            return
        torn = pack_frame(Fatal("x" * 200))[: self._life.crash_cuts] if code == 1 else b""
        self.reader.feed_data(torn)
        self.returncode = code
        self.reader.feed_eof()
        self._task.cancel()

    def _leave(self, message: FromEngine, code: int) -> None:
        """A last word, and the end behind it."""
        self._send(message)
        self._deliver(1, lambda: self._end(code))

    async def _run(self) -> None:
        life = self._life
        await self._commands.get()  # what to load
        self._send(Progress("weights", 1, 2))
        await asyncio.sleep(life.load_seconds)
        if life.load_fault == "crash":
            self._end(1)
        elif life.load_fault == "disk":
            self._leave(Fatal("OSError: No space left on device"), 1)
        else:
            self._send(Ready(INFO))
            if life.crash_at is not None:
                self._loop.call_later(life.crash_at, self._end, 1)
            try:
                await self._work()
            except NoEnd:
                await asyncio.Event().wait()
            except Exception as bug:
                self.bugs.append(bug)
                self._leave(Fatal("The engine has failed."), 1)

    async def _work(self) -> None:
        """`run_loop`, on an event loop."""
        ready_at = self._loop.time()

        def clock() -> float:
            now = self._loop.time()
            return now + sum(jump for at, jump in self._life.clock_jumps if now - ready_at >= at)

        core = broken_core(self._life, clock)
        core.call_when_ready(lambda: self._commands.put_nowait(None))
        sequence = 0
        while True:
            found = [] if core.has_work else [await self._commands.get()]
            while not self._commands.empty():
                found.append(self._commands.get_nowait())
            is_stopped = execute(core, [command for command in found if command is not None])  # type: ignore[misc]
            outputs = core.step()
            await asyncio.sleep(STEP_SECONDS)
            self._send(Step(sequence, outputs, core.stats()))
            sequence += 1
            if is_stopped:
                self._deliver(1, lambda: self._end(0))
                await asyncio.Event().wait()


class Machine:
    """Starts one process after the other, each with its life."""

    def __init__(self, lives: tuple[EngineLife, ...]) -> None:
        self._lives = list(lives)
        self.processes: list[SimulatedProcess] = []

    async def start(self) -> ProcessEngine:
        life = self._lives.pop(0) if self._lives else EngineLife()
        if life.load_fault == "spawn":
            await asyncio.sleep(0.05)
            raise EngineDead("The engine process cannot be started: Too many open files.")
        process = SimulatedProcess(life)
        self.processes.append(process)
        child = Child(process, process.reader, process)  # type: ignore[arg-type]
        return await ProcessEngine.start_with(child, b"recipe")
