"""One served model as an object: the command runs one, and so can a test or whatever holds many."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from fastapi import FastAPI

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import ApiKeys, hosts_of
from thirdeye.server.api.state.server_state import Phase, ServerState
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.engine.process.process_engine import OnProgress
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.launch.opened_model import OpenedModel
from thirdeye.server.launch.start_engine import ModelEngine
from thirdeye.server.settings.api_keys import check_gateway
from thirdeye.server.settings.api_settings import AccessSettings
from thirdeye.server.settings.settings import Settings
from thirdeye.server.tracing.otel_tracer import otlp_tracer
from thirdeye.server.tracing.request_trace import NO_TRACER, Tracer
from thirdeye.server.transport.shutdown import end_answers, until_idle
from thirdeye.server.version import VERSION

logger = logging.getLogger("thirdeye.serve")


class Replica:
    """Its `app` answers from the first moment, with 503s until it is started.

    replica = Replica(settings, open_model(settings.checkpoint), spawner)
    await replica.start()
    ...  # serve replica.app; await replica.supervise() beside it
    await replica.drain(30)
    await replica.close()
    """

    def __init__(
        self,
        settings: Settings,
        opened: OpenedModel,
        spawn: Callable[[], Spawned],
        *,
        is_named_outside: bool = False,
        dies_with_engine: bool = False,
    ) -> None:
        """`spawn` starts the engine's process, unless the engine is to be a thread.
        `is_named_outside`: whoever runs the app puts `x-request-id` on requests and answers.
        `dies_with_engine`: the first death of the engine ends `supervise`, as whoever runs the
        replica puts another in its place. Raises
        `TracingUnavailable` if traces are wanted and their packages are not there, `NoGateway`
        if callers are to be named and no key may name them."""
        self.settings = settings
        self.opened = opened
        self.state = ServerState()
        endpoint = settings.processes.otlp_traces_endpoint
        self.tracer: Tracer = otlp_tracer(endpoint, VERSION) if endpoint else NO_TRACER
        self.app = build_app(settings, self.state, self.tracer, is_named_outside=is_named_outside)
        max_deaths = 1 if dies_with_engine else None
        self._engine = ModelEngine(settings, opened, self.state, spawn, max_deaths)

    async def start(self, watch: OnProgress | None = None) -> EngineInfo:
        """Load the engine, telling `watch` how far it is, then let requests in. Raises `EngineDead`
        with the reason."""
        return await self._engine.start(watch)

    async def supervise(self) -> None:
        """Replace the engine when it dies, until cancelled. Raises `EngineDead` if it keeps dying.
        Only once it is started."""
        await self._engine.supervise()

    @property
    def is_ready(self) -> bool:
        """Whether it wants traffic now."""
        return (
            self.state.phase is Phase.READY
            and not self.state.is_withdrawn
            and not self.state.trouble()
        )

    def health(self) -> str | None:
        """Why it should be replaced; None if it is well, or still loading."""
        return self.state.health()

    def stats(self) -> EngineStats | None:
        """How much its engine has to do; None until it is started."""
        return None if self.state.engine is None else self.state.engine.stats()

    def reread_keys(self) -> None:
        """Take what the key file says now. With an error in it the old keys stay."""
        reread_keys(self.state.keys, self.settings.access)

    async def drain(self, seconds: float, delay: float = 0.0) -> None:
        """Refuse new requests, and wait so long for the answers that are under way. For `delay`
        seconds before, it only says that it wants none: who routes by that sends none any more."""
        if delay:
            self.state.withdraw()
            await asyncio.sleep(delay)
        self.state.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until_idle(self.state), seconds)

    async def close(self) -> None:
        """End the engine, and with it each answer that is left: its client reads an error. Its
        timelines end too, and nothing of another replica in this process."""
        await end_answers(self.state)
        self.state.streams.cut()
        self.tracer.close()


def reread_keys(keys: ApiKeys, access: AccessSettings) -> None:
    """Take what the key file says now. With an error in it the old keys stay."""
    try:
        num_ended = keys.replace(access.api_keys())
    except ValueError as error:
        logger.error("'--api-key-file': %s. The keys stay as they were.", error)
    else:
        logger.info(
            "the key file was read again: %d keys; of keys that are gone %d requests ended",
            len(keys),
            num_ended,
        )


def build_app(
    settings: Settings,
    state: ServerState,
    tracer: Tracer = NO_TRACER,
    *,
    is_named_outside: bool = False,
) -> FastAPI:
    """The HTTP application over a state that may still be loading. Raises `NoGateway`."""
    return create_app(state, api_config(settings, is_named_outside=is_named_outside), tracer)


def api_config(settings: Settings, *, is_named_outside: bool = False) -> ApiConfig:
    """What the HTTP side is told of the settings. Raises `NoGateway`."""
    network, access, requests = settings.network, settings.access, settings.requests
    check_gateway(access.caller_header, access.api_keys())
    return ApiConfig(
        api_keys=access.api_keys(),
        caller_header=access.caller_header,
        open_metrics=access.open_metrics,
        allowed_hosts=hosts_of(network.host, network.allow_host),
        sse_ping=network.sse_ping,
        send_timeout=network.send_timeout,
        version=VERSION,
        max_n=requests.max_n,
        max_stop=requests.max_stop,
        max_choices=requests.max_choices,
        require_model=requests.require_model,
        inspect=requests.inspect,
        strict_max_tokens=requests.strict_max_tokens,
        requests_per_minute=access.requests_per_minute,
        tokens_per_minute=access.tokens_per_minute,
        concurrent_requests=access.concurrent_requests,
        max_queue_time=access.max_queue_time,
        lenient=requests.lenient,
        cors_origins=network.cors_origin,
        vllm_metrics=settings.processes.vllm_metrics,
        access_log=settings.processes.access_log,
        is_named_outside=is_named_outside,
    )
