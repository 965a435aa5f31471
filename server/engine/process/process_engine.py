"""The engine in a process of its own: the serving default. This is the server's side of the pipe.

A crash there (a device fault, an out-of-memory kill) ends the open streams with an error and
nothing else; this process goes on answering. The child is a fresh interpreter, not a fork, and one
end of a socket pair is all they share. The end of that socket is death, whichever side it happens
on.
"""

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Callable
from typing import Self

import msgspec

from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.engine_client import EngineClient
from thirdeye.server.engine.process.frames import FrameReader, pack_frame
from thirdeye.server.engine.process.messages import (
    Command,
    Fatal,
    FromEngine,
    Hello,
    Progress,
    Ready,
    Step,
    Stop,
    ToEngine,
)
from thirdeye.server.engine.process.spawn import Spawned

logger = logging.getLogger(__name__)

EXIT_TIMEOUT = 1.0  # seconds between the end of a child's socket and its own

OnProgress = Callable[[str, int, int], None]  # phase, bytes done, in all


def tell_ahead(spawned: Spawned, recipe: bytes) -> None:
    """Have a child load before anybody is there to listen to it. One that is gone does not get it,
    and whoever starts an engine with it learns of its end."""
    spawned.recipe = recipe
    with contextlib.suppress(OSError):
        spawned.sock.setblocking(True)
        spawned.sock.sendall(pack_frame(Hello(recipe)))
    spawned.sock.setblocking(False)


class ProcessEngine(EngineClient):
    """Use `await ProcessEngine.start(...)`."""

    def __init__(self, info: EngineInfo, child: "Child", close_timeout: float) -> None:
        super().__init__(info)
        self._child = child
        self._close_timeout = close_timeout
        self._is_closing = False
        self._exit_code: int | None = None
        self._reading = asyncio.create_task(self._read(), name="engine-outputs")

    @classmethod
    async def start(
        cls,
        spawned: Spawned,
        recipe: bytes,
        on_progress: OnProgress | None = None,
        *,
        close_timeout: float = 5.0,
    ) -> Self:
        """Tell a child what to load, unless it was told, and wait until that is done. EngineDead,
        with the reason, if it does not come to that.

        `close_timeout` is in seconds: how long `close` waits for the running step before it kills.
        """
        assert spawned.recipe in (None, recipe), "it loads something else"
        to_tell = recipe if spawned.recipe is None else None
        return await cls.start_with(
            await Child.attach(spawned), to_tell, on_progress, close_timeout=close_timeout
        )

    @classmethod
    async def start_with(
        cls,
        child: "Child",
        recipe: bytes | None,
        on_progress: OnProgress | None = None,
        *,
        close_timeout: float = 5.0,
    ) -> Self:
        """`start`, with a child that we already speak to; `recipe` is None if it knows it."""
        try:
            if recipe is not None:
                child.send(Hello(recipe))
            info = await child.wait_ready(on_progress)
        except BaseException:  # also a cancellation: never leave a child behind
            child.kill()
            await child.reap()
            raise
        return cls(info, child, close_timeout)

    @property
    def pid(self) -> int:
        return self._child.pid

    def _send(self, command: Command) -> None:
        self._child.send(command)

    async def _read(self) -> None:
        """Take in steps until the engine's end; then end every stream, and reap the process."""
        why = "The engine process has died."
        try:
            while True:
                message = await self._child.receive()
                if isinstance(message, Fatal):
                    why = message.message
                else:
                    assert isinstance(message, Step), f"unexpected {message!r}"
                    self.receive(message)
        except EOFError:
            pass
        except Exception:
            logger.exception("the engine process sent nonsense")
        if self._is_closing:
            self.abort_all()
        else:
            self.fail_all(why)
        self._exit_code = await self._child.reap()
        logger.info("the engine process has ended with code %s", self._exit_code)

    async def wait_dead(self) -> str:
        """Returns, with the reason, once the process is gone and its exit code has been taken."""
        await asyncio.wait([self._reading])
        why = await super().wait_dead()
        return f"{why} (exit code {self._exit_code})"

    def kill(self) -> None:
        """End the process now, as a crash would: open streams end with ERROR."""
        self._child.kill()

    async def close(self) -> None:
        """See `Engine.close`. Open streams end at once; the process is waited for, which ends with
        the step that runs, `close_timeout` seconds at most."""
        self._is_closing = True
        self.abort_all()
        self._child.send(Stop())
        _, is_pending = await asyncio.wait([self._reading], timeout=self._close_timeout)
        if is_pending:
            self._child.kill()
        await asyncio.wait([self._reading])


class Child:
    """A process that speaks frames: its socket and its end."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader[FromEngine](msgspec.msgpack.Decoder(FromEngine))

    @classmethod
    async def attach(cls, spawned: Spawned) -> Self:
        reader, writer = await asyncio.open_unix_connection(sock=spawned.sock)
        return cls(spawned.process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: ToEngine) -> None:
        """Queue a message. A child that is gone does not get it, and `receive` tells of its end."""
        if not self._writer.is_closing():
            self._writer.write(pack_frame(message))

    async def receive(self) -> FromEngine:
        """The next message. EOFError if the child is gone."""
        try:
            return await self._frames.read_async(self._reader)
        except ConnectionError as error:
            raise EOFError from error

    async def wait_ready(self, on_progress: OnProgress | None) -> EngineInfo:
        while True:
            try:
                message = await self.receive()
            except EOFError:
                code = await self.reap()
                raise EngineDead(
                    f"The engine process ended with code {code} while loading."
                ) from None
            match message:
                case Progress(phase, done, total):
                    if on_progress is not None:
                        on_progress(phase, done, total)
                case Ready(info):
                    return info
                case Fatal(why):
                    raise EngineDead(why)
                case Step():
                    raise AssertionError("a step came before the engine was ready")

    def kill(self) -> None:
        self._process.kill()

    async def reap(self) -> int:
        """The exit code of a child that has ended or is about to. Leaves nothing behind."""
        self._writer.transport.abort()  # whatever is still unsent has no reader
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        if self._process.poll() is None:
            await asyncio.to_thread(self._end)
        return self._process.wait()

    def _end(self) -> None:
        """A child whose socket is closed is about to leave by itself: give it a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=EXIT_TIMEOUT)
        self._process.kill()
        self._process.wait()
