"""The gated delta net of Qwen3-Next and Qwen3.5: a short convolution, then a state for each head.

Queries, keys and values pass a convolution over few tokens; the delta rule
(`model/state/delta_rule.py`) reads and corrects each head's state; what it says is normed head by
head, gated, and led back into the stream.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.config import Activation
from thirdeye.model.declare.states import DeltaNetPart, HeadsPart
from thirdeye.model.native.states.conv_kernel import CausalConvKernel
from thirdeye.model.native.states.delta_kernel import DeltaRuleKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import activation_function, sigmoid
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.parts.states.short_conv import Taps
from thirdeye.model.parts.states.state_mixer import StateMixer
from thirdeye.model.placement import Placement
from thirdeye.model.state.causal_conv import causal_conv
from thirdeye.model.state.delta_rule import delta_rule, softplus
from thirdeye.model.state.state_cache import StateCache


class HeadNumbers(nn.Module):
    """How fast each head forgets, and what is added to what it is asked to forget; float32."""

    def __init__(self, part: HeadsPart, where: Placement) -> None:
        super().__init__()
        wide = replace(where, dtype=torch.float32)
        self.decay, self.shift = (wide.empty(part.num_heads // where.ranks.size) for _ in range(2))


class DeltaNet(StateMixer):
    def __init__(self, part: DeltaNetPart, index: int, where: Placement) -> None:
        """`index`: of its state among those of all such layers."""
        super().__init__(index)
        self.spec = part.spec.dealt_out(where.ranks.size)
        self.project = make_linear(part.project, where)
        self.gates = make_linear(part.gates, replace(where, quantize="none"))
        self.conv = Taps(part.conv, where)
        self.heads = HeadNumbers(part.heads, where)
        self.norm = RMSNorm(part.norm.size, part.norm.eps, where)
        self.output = make_linear(part.output, where)
        self._silu = activation_function(Activation.SILU, where)

    def mix(self, x: Tensor, states: StateCache, plan: Any) -> Tensor:
        conv, delta = (states.layer(name, self.index) for name in ("conv", "delta"))
        return self.mixed(self.project(x), self.gates(x), conv, delta, plan)

    def mixed(self, qkvz: Tensor, gates: Tensor, conv: Tensor, delta: Tensor, plan: Any) -> Tensor:
        """[T, channels and z's], [T, 2 * value heads] -> [T, value heads * value_size]."""
        qkv, z = qkvz.tensor_split([self.spec.channels], dim=-1)
        taps = self.conv
        seen = self._silu(causal_conv(qkv, taps.weight, taps.bias, conv, plan))
        b, a = gates.float().chunk(2, dim=-1)
        decay = (self.heads.decay * softplus(a + self.heads.shift)).exp()
        return self.gated(delta_rule(seen, decay, sigmoid(b), self.spec, delta, plan), z)

    def gated(self, said: Tensor, z: Tensor) -> Tensor:
        """[T, value heads, value_size] float32, z's -> normed head by head, times silu(z)."""
        normed = self.norm(said.to(z.dtype)).flatten(1)
        return (normed * self._silu(z.float())).to(z.dtype)


class NativeDeltaNet(DeltaNet):
    """`DeltaNet` with all but its linear layers in two kernels; a CPU's alone."""

    def __init__(self, part: DeltaNetPart, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        assert where.native is not None
        self._conv = CausalConvKernel(where.native)
        self._rule = DeltaRuleKernel(where.native, self.spec, part.norm.eps)

    def mixed(self, qkvz: Tensor, gates: Tensor, conv: Tensor, delta: Tensor, plan: Any) -> Tensor:
        taps, heads = self.conv, self.heads
        qkv = self._conv.with_silu(qkvz, taps.weight, taps.bias, conv, plan)
        numbers = heads.decay, heads.shift, self.norm.weight
        return self._rule(qkv, qkvz, gates, *numbers, delta, plan)
