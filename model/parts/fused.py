"""The parts of a transformer whose small steps are one kernel each, on a GPU and on a CPU.

A step of one token is hundreds of operations that each read little: their number is what costs.
These classes do what their base classes do and have the same parameters, so a checkpoint fills
either; the base class is the twin each is held against. Their kernels are `model/native/`'s where
those are compiled, else `model/kernels/`'s, which have the same functions. The latter are imported
in constructors: a machine without triton has everything but these.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.triton import Projected, TritonAttention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import AttentionPart, HeadQKNormPart, WideQKNormPart
from thirdeye.model.declare.mlp import GatedMLPPart, MLPPart
from thirdeye.model.declare.parts import NormPart
from thirdeye.model.native.activate import ActivateKernel, XIELUKernel
from thirdeye.model.native.layer_norm import HeadNormKernel, LayerNormKernel
from thirdeye.model.native.rms_norm import RMSNormKernels, WideNormKernel
from thirdeye.model.native.rope_kv import RopeKVKernel
from thirdeye.model.native.states.delta_kernel import SigmoidMulKernel
from thirdeye.model.parts.activations import XIELU
from thirdeye.model.parts.head_norms import HeadQKNorm, QKNorm, WideQKNorm
from thirdeye.model.parts.layers import MLP, GatedMLP, LayerNorm, LayerScale, RMSNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.parts.self_attention import SelfAttention
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class FusedRMSNorm(RMSNorm):
    """`RMSNorm`, and the addition before it, in one kernel."""

    def __init__(
        self, hidden_size: int, eps: float, where: Placement, *, has_weight: bool = True
    ) -> None:
        super().__init__(hidden_size, eps, where, has_weight=has_weight)
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


class NativeLayerNorm(LayerNorm):
    """`LayerNorm`, and the addition before it, in one kernel; a CPU's alone."""

    def __init__(self, part: NormPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = LayerNormKernel(where.native)

    def forward(self, x: Tensor) -> Tensor:
        return self._kernel(x, None, self.weight, self.bias, self.eps)[1]

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return self._kernel(x, delta, self.weight, self.bias, self.eps)


class NativeXIELU(XIELU):
    """`XIELU` in one kernel; a CPU's alone."""

    def __init__(self, where: Placement) -> None:
        super().__init__(where)
        assert where.native is not None
        self._kernel = XIELUKernel(where.native)
        self._numbers: tuple[float, ...] = ()  # known when the weights are

    def forward(self, x: Tensor) -> Tensor:
        self._numbers = self._numbers or tuple(n.item() for n in self.numbers())
        return self._kernel(x, *self._numbers)


class NativeLayerScale(LayerScale):
    """`LayerScale` by a number that no step has to look up; a CPU's alone."""

    def __init__(self, where: Placement) -> None:
        super().__init__(where)
        self._factor: float | None = None  # known when the weights are

    def forward(self, x: Tensor) -> Tensor:
        if self._factor is None:
            self._factor = self.weight.item()
        return x * self._factor


class NativeMLP(MLP):
    """`MLP` with its activation, any of them, in one kernel; a CPU's alone."""

    def __init__(self, part: MLPPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        if part.act is None:
            self.act = ActivateKernel(where.native, part.activation, is_gated=False)
        else:
            self.act = NativeXIELU(where)


class FusedGatedMLP(GatedMLP):
    """`GatedMLP` with the gate's activation and the product in one kernel."""

    def __init__(self, part: GatedMLPPart, where: Placement) -> None:
        super().__init__(part, where)
        self._gate: Callable[[Tensor], Tensor]
        if where.native:
            self._gate = ActivateKernel(where.native, part.activation, is_gated=True)
        else:
            from thirdeye.model.kernels.gated_mul import gated_mul  # noqa: PLC0415

            self._gate = partial(gated_mul, activation=part.activation)

    def neurons(self, x: Tensor) -> Tensor:
        return self._gate(self.gate_up(x))


class NativeWideQKNorm(WideQKNorm):
    """`WideQKNorm` in one kernel; a CPU's alone, and of one that has all heads."""

    def __init__(self, part: WideQKNormPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = WideNormKernel(where.native)

    def forward(self, qkv: Tensor) -> Tensor:
        query, key = self.query_norm, self.key_norm
        return self._kernel(qkv, query.weight, key.weight, query.eps, key.eps)


class NativeHeadQKNorm(HeadQKNorm):
    """`HeadQKNorm` in one kernel; a CPU's alone."""

    def __init__(self, part: HeadQKNormPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = HeadNormKernel(where.native)

    def forward(self, qkv: Tensor) -> Tensor:
        return self._kernel(qkv, self.query_norm.weight, self.key_norm.weight, self.query_norm.eps)


class FusedSelfAttention(SelfAttention):
    """`SelfAttention` with norm, rotation (of no channel, where there is none) and cache write in
    one kernel."""

    def __init__(
        self, part: AttentionPart, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__(part, layer, backend, where)
        if part.wide_qk_norm and where.native and where.ranks.size == 1:
            self.wide_qk_norm = NativeWideQKNorm(part.wide_qk_norm, where)
        if part.head_qk_norm and where.native:
            self.head_qk_norm = NativeHeadQKNorm(part.head_qk_norm, where)
        self._kernel: Any
        if where.native:
            self._kernel = RopeKVKernel(where.native)
            self._multiply = SigmoidMulKernel(where.native)
        else:
            from thirdeye.model.kernels import rope_kv  # noqa: PLC0415

            self._kernel = rope_kv
        self._keeper = backend if isinstance(backend, TritonAttention) else None

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        mixed = self.mix_projected(self.qkv(x), batch, rotate, kv_cache, plan)
        return self.output(self.through_gate(mixed.flatten(1), x))

    def mix_projected(
        self, qkv: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        """What queries see [T, num_heads, size of a value], of what x was projected to: in
        attention's own launch, where its kernel does that."""
        keeper = self._keeper
        if keeper is None or not keeper.keeps(plan, self.layout, self.num_kv_heads):
            return self.mix(self.keep_projected(qkv, batch, rotate, kv_cache), kv_cache, plan)
        heads = self.shaped(qkv).view(len(qkv), -1, self.head_dim)
        caches = kv_cache.layer(self.layer)
        norms = self.qk_norm if isinstance(self.qk_norm, QKNorm) else None
        projected = Projected(rotate, norms, self.layout.value_eps)
        seen = keeper.forward_projected(
            heads, *caches, plan, projected, self.sink_scores, self.slopes
        )
        mixed: Tensor = self.value(seen)
        return mixed

    def keep(self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache) -> Tensor:
        return self.keep_projected(self.qkv(x), batch, rotate, kv_cache)

    def keep_projected(
        self, qkv: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache
    ) -> Tensor:
        """`keep`, of what x was projected to."""
        norms = self.qk_norm if isinstance(self.qk_norm, QKNorm) else None
        caches = kv_cache.layer(self.layer)
        return self._kernel.rope_and_write(
            self.shaped(qkv),
            rotate.cos,
            rotate.sin,
            batch.slot_mapping,
            *caches,
            norms,
            rotate.query_scale,
            self.layout,
        )
