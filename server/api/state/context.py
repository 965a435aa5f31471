"""What every route is given: the server's state, its settings, and what it counts and caches."""

from dataclasses import dataclass

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.requests.read_request import BodyReader
from thirdeye.server.api.state.grammar_cache import Grammars
from thirdeye.server.api.state.metrics import Metrics
from thirdeye.server.api.state.server_state import ServerState


@dataclass(frozen=True, slots=True)
class Context:
    state: ServerState
    config: ApiConfig
    bodies: BodyReader
    metrics: Metrics
    grammars: Grammars

    @staticmethod
    def of(state: ServerState, config: ApiConfig) -> "Context":
        metrics = Metrics(state, has_vllm_names=config.vllm_metrics)
        bodies = BodyReader(config)
        return Context(state, config, bodies, metrics, Grammars(metrics))
