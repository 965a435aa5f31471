"""The engine in a thread of this process: for tests, notebooks, and models too small to matter.

It keeps every promise of the `Engine` protocol but one: a crash of the interpreter takes it along.
"""

import asyncio
import contextlib
import logging
import threading

from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.engine.process.engine_client import ENGINE_CLOSED, EngineClient
from thirdeye.server.engine.process.engine_loop import run_loop
from thirdeye.server.engine.process.inbox import Inbox
from thirdeye.server.engine.process.messages import Command, Step, Stop

logger = logging.getLogger(__name__)


class ThreadEngine(EngineClient):
    """Runs `core` from now on. Create it where an event loop runs: its outputs come there."""

    def __init__(self, core: EngineCore, info: EngineInfo) -> None:
        super().__init__(info)
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def _send(self, command: Command) -> None:
        self._inbox.put(command)

    def _run(self) -> None:
        try:
            run_loop(self._core, self._inbox, self._emit)
        except Exception:
            logger.exception("the engine died")
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self.fail_all, "The engine has failed.")

    def _emit(self, step: Step) -> None:
        """One wake-up of the event loop for each step, however many requests are in it."""
        self._loop.call_soon_threadsafe(self.receive, step)

    def kill(self) -> None:
        """A thread cannot be ended: its requests are, and it is left alone."""
        self.fail_all("The engine was given up.")

    async def close(self) -> None:
        """See `Engine.close`. Waits for the step that runs."""
        self.refuse(ENGINE_CLOSED)
        self._inbox.put(Stop())
        await asyncio.to_thread(self._thread.join)
        self.abort_all()
