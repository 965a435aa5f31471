"""LFM2's layer between those with attention: a convolution over few tokens, between two gates."""

from typing import Any

from torch import Tensor, nn

from thirdeye.model.declare.states import ConvPart, ShortConvPart
from thirdeye.model.native.states.conv_kernel import CausalConvKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.states.state_mixer import StateMixer
from thirdeye.model.placement import Placement
from thirdeye.model.state.causal_conv import causal_conv
from thirdeye.model.state.state_cache import StateCache


class Taps(nn.Module):
    """The weights of a convolution, of this rank's channels."""

    def __init__(self, part: ConvPart, where: Placement) -> None:
        super().__init__()
        channels = part.own()["weight"].own_shape(where.ranks.rank, where.ranks.size)[0]
        self.weight = where.empty(channels, part.kernel)
        self.bias = where.empty(channels) if part.has_bias else None


class ShortConv(StateMixer):
    """output(after * conv(before * input)), the three from one projection."""

    def __init__(self, part: ShortConvPart, index: int, where: Placement) -> None:
        """`index`: of its state among those of all such layers."""
        super().__init__(index)
        self.project = make_linear(part.project, where)
        self.conv = Taps(part.conv, where)
        self.output = make_linear(part.output, where)

    def mix(self, x: Tensor, states: StateCache, plan: Any) -> Tensor:
        cache = states.layer("conv", self.index)
        return self.mixed(self.project(x), cache, plan)

    def mixed(self, thirds: Tensor, cache: Tensor, plan: Any) -> Tensor:
        """[T, 3 * channels] -> [T, channels]."""
        before, after, x = thirds.chunk(3, dim=-1)
        mixed = causal_conv(before * x, self.conv.weight, self.conv.bias, cache, plan)
        return after * mixed.to(x.dtype)


class NativeShortConv(ShortConv):
    """`ShortConv` with all but its linear layers in one kernel; a CPU's alone."""

    def __init__(self, part: ShortConvPart, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        assert where.native is not None
        self._kernel = CausalConvKernel(where.native)

    def mixed(self, thirds: Tensor, cache: Tensor, plan: Any) -> Tensor:
        return self._kernel.gated(thirds, self.conv.weight, self.conv.bias, cache, plan)
