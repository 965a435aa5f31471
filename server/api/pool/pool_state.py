"""The life of a server of several models, as its process sees it."""

from thirdeye.server.api.http.sse import OpenStreams
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.api.state.server_state import Phase
from thirdeye.server.errors import ServiceUnavailable, come_back_in, draining


class PoolState:
    """Loading until the models are there that are loaded at the start."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self.phase = Phase.LOADING
        self.detail = "starting"
        self.is_withdrawn = False
        self.streams = OpenStreams()  # of all models

    @property
    def in_flight(self) -> int:
        return self._pool.in_flight

    def ready(self) -> None:
        self.phase, self.detail = Phase.READY, ""

    def fail(self, reason: str) -> None:
        self.phase, self.detail = Phase.FAILED, reason

    def withdraw(self) -> None:
        self.is_withdrawn = True

    def drain(self) -> None:
        self.phase, self.detail = Phase.DRAINING, "the server is shutting down"
        self._pool.refuse()

    async def close_engine(self) -> None:
        await self._pool.close()

    def health(self) -> str | None:
        """Why this server should be replaced. A model that failed is no reason, unless all did."""
        if self.phase in (Phase.DRAINING, Phase.FAILED):
            return self.detail
        phases = [self._pool.books(member).phase for member in self._pool.members.values()]
        is_lost = all(phase is ModelPhase.FAILED for phase in phases)
        return "all models have failed" if is_lost else None

    def check_open(self) -> None:
        """Raises `ServiceUnavailable` if it takes no request any more."""
        if self.phase is Phase.DRAINING:
            raise draining("The server is shutting down and takes no new requests.")

    def check_ready(self) -> None:
        """Raises `ServiceUnavailable` if it wants no traffic now."""
        if self.phase is Phase.LOADING:
            raise ServiceUnavailable(
                f"Loading models: {self.detail}.", code="model_loading", headers=come_back_in(2)
            )
        if self.is_withdrawn:
            raise draining("The server is about to shut down: send new requests elsewhere.")
        if reason := self.health():
            raise ServiceUnavailable(f"Not ready: {reason}.", code="unhealthy")
