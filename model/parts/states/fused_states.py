"""Layers that keep a state, with what lies between their linear layers in triton's kernels.

They do what their base classes do and have the same parameters; the kernels are imported in
constructors: a machine without triton has everything but these.
"""

from typing import Any

from torch import Tensor

from thirdeye.model.declare.states import DeltaNetPart, Mamba2Part, ShortConvPart
from thirdeye.model.parts.states.delta_net import DeltaNet
from thirdeye.model.parts.states.mamba2 import Mamba2
from thirdeye.model.parts.states.short_conv import ShortConv
from thirdeye.model.placement import Placement


class FusedShortConv(ShortConv):
    """`ShortConv`, in one kernel."""

    def __init__(self, part: ShortConvPart, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        from thirdeye.model.kernels.states.causal_conv_kernel import gated_conv  # noqa: PLC0415

        self._convolve = gated_conv

    def mixed(self, thirds: Tensor, cache: Tensor, plan: Any) -> Tensor:
        return self._convolve(thirds, self.conv.weight, self.conv.bias, cache, plan)


class FusedDeltaNet(DeltaNet):
    """`DeltaNet`, the convolution and the rule in a kernel each."""

    def __init__(self, part: DeltaNetPart, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        from thirdeye.model.kernels.states.causal_conv_kernel import conv_with_silu  # noqa: PLC0415
        from thirdeye.model.kernels.states.delta_rule_kernel import delta_rule  # noqa: PLC0415

        self._convolve, self._rule = conv_with_silu, delta_rule

    def mixed(self, qkvz: Tensor, gates: Tensor, conv: Tensor, delta: Tensor, plan: Any) -> Tensor:
        taps, heads = self.conv, self.heads
        seen = self._convolve(qkvz, taps.weight, taps.bias, conv, plan)
        said = self._rule(seen, gates, heads.decay, heads.shift, self.spec, delta, plan)
        return self.gated(said, qkvz[:, self.spec.channels :])


class FusedMamba2(Mamba2):
    """`Mamba2`, the convolution and the scan in a kernel each."""

    def __init__(self, part: Mamba2Part, index: int, where: Placement) -> None:
        super().__init__(part, index, where)
        from thirdeye.model.kernels.states.causal_conv_kernel import conv_with_silu  # noqa: PLC0415
        from thirdeye.model.kernels.states.selective_scan_kernel import selective_scan  # noqa: PLC0415

        self._convolve, self._scan = conv_with_silu, selective_scan

    def mixed(self, projected: Tensor, conv: Tensor, ssm: Tensor, plan: Any) -> Tensor:
        spec, taps, heads = self.spec, self.conv, self.heads
        _, z, steps = projected.tensor_split([spec.channels, spec.channels + spec.width], dim=-1)
        seen = self._convolve(projected, taps.weight, taps.bias, conv, plan)
        numbers = heads.shift, heads.decay, heads.skip
        return self.gated(self._scan(seen, steps, *numbers, spec, ssm, plan), z)
