"""A server of several models, as an object: see `Replica` for one of a single model."""

import asyncio
import time
from collections.abc import Sequence

from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelTerms, gib
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.errors import ServiceUnavailable
from thirdeye.server.garbage_collection import freeze_heap
from thirdeye.server.interpreter_lock import share_often
from thirdeye.server.launch.asgi_app import create_pool_app
from thirdeye.server.launch.console import say
from thirdeye.server.launch.open_door import open_door_line, open_keys_line
from thirdeye.server.launch.replica import api_config, reread_keys
from thirdeye.server.launch.several.giving_way import may_take_back
from thirdeye.server.launch.several.open_models import Opened, loaded_at_start, make_pool
from thirdeye.server.launch.spawner import EngineSpawner
from thirdeye.server.settings.settings import Settings
from thirdeye.server.tracing.otel_tracer import otlp_tracer
from thirdeye.server.tracing.request_trace import NO_TRACER, Tracer
from thirdeye.server.version import VERSION


class PoolServer:
    """Its `app` answers from the first moment: a request may be the reason for a model's load."""

    def __init__(
        self, settings: Settings, opened: Sequence[Opened], spawner: EngineSpawner
    ) -> None:
        """Raises `DoesNotFit`, `ModelsUnclear` or `TracingUnavailable`."""
        self.settings = settings
        config = api_config(settings)
        self.pool: ModelPool = make_pool(opened, settings, config, spawner)
        self._first = loaded_at_start(opened, settings, self.pool)
        self.state = PoolState(self.pool)
        endpoint = settings.processes.otlp_traces_endpoint
        self.tracer: Tracer = otlp_tracer(endpoint, VERSION) if endpoint else NO_TRACER
        self.app = create_pool_app(self.pool, self.state, config, self.tracer)

    def reread_keys(self) -> None:
        reread_keys(self.pool.default.state.keys, self.settings.access)

    async def load(self, url: str, started: float) -> None:
        """Load what is to be there at the start and say so; then stay, until cancelled. Raises
        `EngineDead` if one of these cannot be loaded."""
        members = [self.pool.members[name] for name in self._first]
        say(f"thirdeye {VERSION}: loading {', '.join(self._first)} of {len(self.pool.members)}")
        for member in members:
            self.state.detail = member.name
            try:
                await self.pool.load(member)
            except ServiceUnavailable as error:
                why = self.pool.books(member).why_failed or error.message
                raise EngineDead(f"{member.name}: {why}") from error
        self.state.ready()
        freeze_heap()
        share_often()
        say("\n".join(self._lines(url, time.monotonic() - started)))
        await asyncio.Event().wait()

    def _lines(self, url: str, seconds: float) -> list[str]:
        residency = self.pool.residency
        lines = [
            f"Ready: {url}  chat: {url}/  {len(self.pool.members)} models, "
            f"{gib(residency.max_bytes)} GiB for them  in {seconds:.1f} s"
        ]
        for member in self.pool.members.values():
            phase = self.pool.books(member).phase
            lines.append(f"  {member.name}: {phase}, {about(member.terms)}")
        if len(self.pool.members) > 1 and not may_take_back():
            lines.append(
                "  a flooded model, or one that loads, does not give way to the others here: "
                "that wants root, LimitNICE=+0 of a unit or --ulimit nice=20 of a container"
            )
        has_key = bool(self.pool.default.state.keys)
        key_file = self.settings.access.api_key_file
        return [*lines, *open_door_line(url, has_key=has_key), *open_keys_line(key_file)]


def about(terms: ModelTerms) -> str:
    """What it takes, and when it goes."""
    if terms.is_pinned:
        stay = "pinned"
    else:
        stay = "stays" if terms.keep_alive < 0 else f"asleep after {terms.keep_alive:g} s"
    return f"{gib(terms.num_bytes)} GiB, {stay}"
