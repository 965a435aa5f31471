"""The server as it serves, in a thread of the test's own process."""

import asyncio
import socket
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import uvicorn

from thirdeye.server.transport.server import Server

T = TypeVar("T")


class ThreadedServer(Server):
    """Whoever starts it, or ends it, waits for that and for no tick of a clock."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._port: Future[int] = Future()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> int:
        """The port, once it listens."""
        self._thread.start()
        return self._port.result(30)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it where it serves."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(100)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self.leave)
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:
            if self._port.done():
                raise
            self._port.set_exception(error)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._port.set_result(self.servers[0].sockets[0].getsockname()[1])
