"""The parts of a transformer whose small steps are one kernel each, on a GPU and on a CPU.

A step of one token is hundreds of operations that each read little: their number is what costs.
These classes do what their base classes do and have the same parameters, so a checkpoint fills
either; the base class is the twin each is held against. Their kernels are `model/native/`'s where
those are compiled, else `model/kernels/`'s, which have the same functions. The latter are imported
in constructors: a machine without triton has everything but these.
"""

from typing import Any

from torch import Tensor

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import AttentionPart, GatedMLPPart
from thirdeye.model.native.rms_norm import RMSNormKernels
from thirdeye.model.native.rope_kv import RopeKVKernel
from thirdeye.model.native.silu_mul import SiluMulKernel
from thirdeye.model.parts.layers import GatedMLP, RMSNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.parts.self_attention import QKNorm, SelfAttention
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class FusedRMSNorm(RMSNorm):
    """`RMSNorm`, and the addition before it, in one kernel."""

    def __init__(self, hidden_size: int, eps: float, where: Placement) -> None:
        super().__init__(hidden_size, eps, where)
        self._kernel: Any
        if where.native:
            self._kernel = RMSNormKernels(where.native)
        else:
            from thirdeye.model.kernels import rms_norm  # noqa: PLC0415  # see the module's docstring

            self._kernel = rms_norm

    def forward(self, x: Tensor) -> Tensor:
        return self._kernel.rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return self._kernel.add_rms_norm(x, delta, self.weight, self.eps)


class FusedSwiGLU(GatedMLP):
    """`GatedMLP` with SiLU, which is applied and multiplied in one kernel."""

    def __init__(self, part: GatedMLPPart, where: Placement) -> None:
        super().__init__(part, where)
        self._kernel: Any
        if where.native:
            self._kernel = SiluMulKernel(where.native)
        else:
            from thirdeye.model.kernels import silu_mul  # noqa: PLC0415

            self._kernel = silu_mul

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self._kernel.silu_mul(self.gate_up(x)))


class FusedSelfAttention(SelfAttention):
    """`SelfAttention` with norm, rotation (of no channel, where there is none) and cache write in
    one kernel."""

    def __init__(
        self, part: AttentionPart, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__(part, layer, backend, where)
        self._kernel: Any
        if where.native:
            self._kernel = RopeKVKernel(where.native)
        else:
            from thirdeye.model.kernels import rope_kv  # noqa: PLC0415

            self._kernel = rope_kv

    def keep(self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache) -> Tensor:
        norms = self.qk_norm if isinstance(self.qk_norm, QKNorm) else None
        caches = kv_cache.layer(self.layer)
        return self._kernel.rope_and_write(
            self.qkv(x), rotate.cos, rotate.sin, batch.slot_mapping, *caches, norms
        )
