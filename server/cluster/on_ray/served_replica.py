"""One replica: an actor of Ray Serve whose process is our API process, with its engine beside it.

Ray starts, watches and replaces it; HAProxy sends requests to its own port. Ray's server there is
uvicorn, and is given our protocol class: with it come the limits on slow and large requests, and
the short way of a token to its socket.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import uvicorn.config
from starlette.types import ASGIApp

from thirdeye.server import logs
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.garbage_collection import freeze_heap
from thirdeye.server.interpreter_lock import share_often
from thirdeye.server.launch.adapter_checks import check_adapters
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.replica import Replica
from thirdeye.server.launch.spawner import EngineSpawner
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.transport.connection_guard import guarded
from thirdeye.server.transport.shutdown import until_idle

LAST_WORDS = 5.0  # seconds in which clients read that the engine has died
logger = logging.getLogger("thirdeye.serve")


class ServedReplica:
    """`options` are settings of `thirdeye serve`, by name; `threads` are the engine's, unless they
    say otherwise."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, options: Mapping[str, Any], threads: int
    ) -> None:
        settings = read_settings({"threads": threads, **options})
        logs.configure(settings.processes.log_level, settings.processes.log_format)
        guard = guarded(send_seconds=settings.network.send_timeout + 1)
        uvicorn.config.HTTP_PROTOCOLS["auto"] = guard  # type: ignore[assignment]  # it may be a class
        self._spawner = EngineSpawner()
        self._spawner.start_ahead()
        opened = await asyncio.to_thread(open_model, settings.checkpoint)
        check_adapters(settings, opened)
        self._replica = Replica(
            settings, opened, self._spawner, is_named_outside=True, dies_with_engine=True
        )
        await self._replica.start()
        freeze_heap()
        share_often()
        self._supervising = asyncio.create_task(self._supervise())

    async def _supervise(self) -> None:
        """The engine's death is this process's, once its clients have read of it: Ray puts another
        in its place, and HAProxy sends nobody here meanwhile."""
        try:
            await self._replica.supervise()
        except EngineDead as error:
            logger.error("%s This replica ends.", error)
            self._replica.state.fail(str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until_idle(self._replica.state), LAST_WORDS)
            os._exit(1)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._replica.app

    # Of what Ray asks every second or two all is async: for the rest it starts a thread each time.

    async def check_health(self) -> None:
        """Raises if this replica should be replaced."""
        if why := self._replica.health():
            raise RuntimeError(why)

    async def record_routing_stats(self) -> dict[str, float]:
        """Told to the picker."""
        return {"under_way": self._replica.state.in_flight, "time": time.time()}

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Told to the autoscaler."""
        stats = self._replica.stats()
        if stats is None:
            return {"running": 0, "waiting": 0}
        return {"running": stats.num_requests_running, "waiting": stats.num_requests_waiting}

    async def __del__(self) -> None:
        """Ray has let the answers end by now."""
        supervising = getattr(self, "_supervising", None)
        if supervising is not None:
            supervising.cancel()
            await self._replica.close()
        else:
            self._spawner.cancel()
