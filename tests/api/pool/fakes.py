"""Members of a pool whose loads the test ends, and whose answers are those of a fake engine."""

import asyncio
from typing import Any

from tests.api.support import fake_engine, says, served_model
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.pool.model_terms import ModelTerms
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel, ServerState
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.launch.asgi_app import model_router


class FakeLoadable:
    """With `is_quick` it loads and stops at once, else when the test says so."""

    def __init__(
        self, state: ServerState, model: ServedModel, engine: FakeEngine, is_quick: bool
    ) -> None:
        self.state, self.model, self.engine = state, model, engine
        self.num_starts = self.num_stops = 0
        self.may_load, self.may_stop = asyncio.Event(), asyncio.Event()
        if is_quick:
            self.may_load.set()
            self.may_stop.set()
        self.error: str | None = None
        self._end: asyncio.Future[None] | None = None

    async def start(self) -> None:
        self.num_starts += 1
        self._end = asyncio.get_running_loop().create_future()
        await self.may_load.wait()
        if self.error is not None:
            raise EngineDead(self.error)
        self.state.ready(self.engine, self.model)

    async def supervise(self) -> None:
        assert self._end is not None
        await self._end

    async def stop(self) -> None:
        self.num_stops += 1
        await self.may_stop.wait()
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def die(self, why: str) -> None:
        assert self._end is not None
        self._end.set_exception(EngineDead(why))


def member(
    name: str,
    num_bytes: int = 1,
    *,
    is_quick: bool = True,
    engine: FakeEngine | None = None,
    model: dict[str, Any] | None = None,
    **terms: Any,
) -> tuple[PoolMember, FakeLoadable]:
    state = ServerState()
    engine = engine or fake_engine(says(f"I am {name}"))
    served = served_model(**{"names": (name,)} | (model or {}))
    context = Context.of(state, ApiConfig())
    loadable = FakeLoadable(state, served, engine, is_quick)
    made = PoolMember(
        ModelTerms(name, num_bytes, **terms),
        state,
        context.metrics,
        model_router(context),
        loadable,
        (engine.info, served),
    )
    return made, loadable
