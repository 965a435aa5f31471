"""A model of a pool: its terms, and all that serves it once it is loaded."""

from dataclasses import dataclass
from typing import Protocol

from starlette.routing import Router

from thirdeye.server.api.pool.model_terms import ModelTerms
from thirdeye.server.api.state.metrics import Metrics
from thirdeye.server.api.state.server_state import ServedModel, ServerState
from thirdeye.server.engine.interface.types import EngineInfo


class Loadable(Protocol):
    """What brings a model's engine into memory and out of it, again and again."""

    async def start(self) -> object:
        """Its state is ready afterwards. Raises `EngineDead`; cancelled, it leaves no process."""

    async def supervise(self) -> None:
        """Look after it, once it is started. Returns after `stop`; raises `EngineDead` if it
        cannot be kept alive."""

    async def stop(self) -> None:
        """Afterwards its process is gone and its memory free."""


@dataclass(frozen=True, slots=True)
class PoolMember:
    """`expected` is what its files say of the engine and the model, for as long as it was not
    loaded. `router` has every route of the API, over this model alone."""

    terms: ModelTerms
    state: ServerState
    metrics: Metrics
    router: Router
    loadable: Loadable
    expected: tuple[EngineInfo, ServedModel]

    @property
    def name(self) -> str:
        return self.terms.name

    @property
    def model(self) -> ServedModel:
        return self.state.model or self.expected[1]

    @property
    def engine_info(self) -> EngineInfo:
        return self.state.engine.info if self.state.engine else self.expected[0]
