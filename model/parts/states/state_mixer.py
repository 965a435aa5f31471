"""What stands in attention's place in a layer that keeps a state instead of keys and values."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.state_cache import StateCache


class StateMixer(nn.Module, ABC):
    """Called as attention is; what it keeps is in the cache's states, in rows of its own."""

    output: nn.Module

    def __init__(self, index: int) -> None:
        """`index`: of its state among those of all such layers."""
        super().__init__()
        self.index = index

    def forward(
        self,
        x: Tensor,
        batch: ForwardBatch,  # noqa: ARG002
        rotate: Rotation,  # noqa: ARG002
        kv_cache: KVCache,
        plan: Any,
    ) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        added: Tensor = self.output(self.mix(x, kv_cache.states, plan))
        return added

    @abstractmethod
    def mix(self, x: Tensor, states: StateCache, plan: Any) -> Tensor:
        """x [T, hidden_size] -> [T, what the output's product reads], and states as they are
        behind these tokens."""
