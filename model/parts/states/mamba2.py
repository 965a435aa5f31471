"""Mamba-2's layer (Granite 4, Falcon-H1, Nemotron-H): a short convolution, then a selective scan.

One projection makes what is convolved (x, B and C), a gate z and each head's step dt. The scan
(`model/state/selective_scan.py`) writes each head's state and reads it; what is read is gated,
normed group by group in most, and led back into the stream.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.config import Activation
from thirdeye.model.declare.states import HeadsPart, Mamba2Part
from thirdeye.model.native.states.conv_kernel import CausalConvKernel
from thirdeye.model.native.states.mamba_kernel import SelectiveScanKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import activation_function
from thirdeye.model.parts.states.short_conv import Taps
from thirdeye.model.parts.states.state_mixer import StateMixer
from thirdeye.model.placement import Placement
from thirdeye.model.state.causal_conv import causal_conv
from thirdeye.model.state.delta_rule import softplus
from thirdeye.model.state.selective_scan import selective_scan
from thirdeye.model.state.state_cache import StateCache


class Mamba2Numbers(nn.Module):
    """How fast each head forgets, what is added to its steps, and how much of its input it passes
    on as it is; float32."""

    def __init__(self, part: HeadsPart, where: Placement) -> None:
        super().__init__()
        wide, num_own = replace(where, dtype=torch.float32), part.num_heads // where.ranks.size
        self.decay, self.shift, self.skip = (wide.empty(num_own) for _ in range(3))


class GroupNorm(nn.Module):
    """An RMSNorm over each group's channels, of which a rank has whole groups."""

    def __init__(self, size: int, num_groups: int, eps: float, where: Placement) -> None:
        """`size` of all groups together, of all ranks; `num_groups` of this one."""
        super().__init__()
        self._num_groups, self._eps = num_groups, eps
        self.weight = where.empty(size // where.ranks.size)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, size] float32 -> the same."""
        groups = x.view(len(x), self._num_groups, -1)
        scale = torch.rsqrt(groups.square().mean(-1, keepdim=True) + self._eps)
        return (groups * scale).flatten(1) * self.weight.float()


class Mamba2(StateMixer):
    def __init__(self, part: Mamba2Part, index: int, where: Placement) -> None:
        """`index`: of its state among those of all such layers."""
        super().__init__(index)
        self.spec = part.spec.dealt_out(where.ranks.size)
        self.project = make_linear(part.project, where)
        self.conv = Taps(part.conv, where)
        self.heads = Mamba2Numbers(part.heads, where)
        norm, groups = part.norm, self.spec.num_groups
        self.norm = GroupNorm(norm.size, groups, norm.eps, where) if norm else None
        self.output = make_linear(part.output, where)
        self._silu = activation_function(Activation.SILU, where)

    def mix(self, x: Tensor, states: StateCache, plan: Any) -> Tensor:
        conv, ssm = (states.layer(name, self.index) for name in ("conv", "ssm"))
        return self.mixed(self.project(x), conv, ssm, plan)

    def mixed(self, projected: Tensor, conv: Tensor, ssm: Tensor, plan: Any) -> Tensor:
        """[T, channels and z's and steps] -> [T, width]."""
        spec, taps, heads = self.spec, self.conv, self.heads
        ends = [spec.channels, spec.channels + spec.width]
        convolved, z, dt = projected.tensor_split(ends, dim=-1)
        seen = self._silu(causal_conv(convolved, taps.weight, taps.bias, conv, plan))
        steps = softplus(dt.float() + heads.shift)
        read = selective_scan(seen, steps, heads.decay, heads.skip, spec, ssm, plan)
        return self.gated(read, z)

    def gated(self, read: Tensor, z: Tensor) -> Tensor:
        """[T, heads, head_size] float32, z's -> times silu(z), and normed before or behind."""
        read, gate = read.flatten(1), self._silu(z.float())
        if self.norm is None:
            gated = read * gate
        elif self.spec.gates_first:
            gated = self.norm(read * gate)
        else:
            gated = gate * self.norm(read)
        return gated.to(z.dtype)


class NativeMamba2(Mamba2):
    """`Mamba2` with all but its linear layers in kernels; a CPU's alone."""

    def __init__(self, part: Mamba2Part, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        assert where.native is not None
        self._conv = CausalConvKernel(where.native)
        eps = part.norm.eps if part.norm else 0.0
        self._scan = SelectiveScanKernel(where.native, self.spec, eps)

    def mixed(self, projected: Tensor, conv: Tensor, ssm: Tensor, plan: Any) -> Tensor:
        taps, heads = self.conv, self.heads
        seen = self._conv.with_silu(projected, taps.weight, taps.bias, conv, plan)
        gain = None if self.norm is None else self.norm.weight
        numbers = heads.shift, heads.decay, heads.skip, gain
        return self._scan(seen, projected, *numbers, ssm, plan)
