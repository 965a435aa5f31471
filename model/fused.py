"""The parts of a transformer whose small steps are one kernel each, for a GPU.

On a GPU a step of one token is hundreds of kernels that each read little: their number is what
costs. These classes do what their base classes do and have the same parameters, so a checkpoint
fills either; the base class is the twin each is held against. Kernels are imported in constructors:
a machine without triton has everything but these.
"""

from types import ModuleType
from typing import Any

from torch import Tensor

from model.attention.base import AttentionBackend
from model.batch import ForwardBatch
from model.config import ModelConfig
from model.kv_cache import KVCache
from model.layers import GatedMLP, RMSNorm
from model.placement import Placement
from model.rope import Rotate, Rotation
from model.self_attention import QKNorm, SelfAttention


class FusedRMSNorm(RMSNorm):
    """`RMSNorm`, and the addition before it, in one kernel."""

    def __init__(self, hidden_size: int, eps: float, where: Placement) -> None:
        super().__init__(hidden_size, eps, where)
        from model.kernels import rms_norm  # noqa: PLC0415  # see the module's docstring

        self._kernel: ModuleType | Any = rms_norm

    def forward(self, x: Tensor) -> Tensor:
        return self._kernel.rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return self._kernel.add_rms_norm(x, delta, self.weight, self.eps)


class FusedSwiGLU(GatedMLP):
    """`GatedMLP` with SiLU, which is applied and multiplied in one kernel."""

    def __init__(self, config: ModelConfig, where: Placement) -> None:
        super().__init__(config, where)
        from model.kernels import silu_mul  # noqa: PLC0415

        self._kernel: ModuleType | Any = silu_mul

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self._kernel.silu_mul(self.gate_up(x)))


class FusedRotarySelfAttention(SelfAttention):
    """`SelfAttention` of a rotary model: norm, rotation and cache write in one kernel."""

    def __init__(
        self, config: ModelConfig, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__(config, layer, backend, where)
        from model.kernels import rope_kv  # noqa: PLC0415

        self._kernel: ModuleType | Any = rope_kv

    def keep(self, x: Tensor, batch: ForwardBatch, rotate: Rotate, kv_cache: KVCache) -> Tensor:
        assert isinstance(rotate, Rotation)
        norms = self.qk_norm if isinstance(self.qk_norm, QKNorm) else None
        caches = kv_cache.layer(self.layer)
        return self._kernel.rope_and_write(
            self.qkv(x), rotate.cos, rotate.sin, batch.slot_mapping, *caches, norms
        )
