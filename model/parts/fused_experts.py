"""A layer of experts in kernels of our own: on a CPU the ones in C, from tape or not."""

from typing import Any

from torch import Tensor

from thirdeye.model.declare.mlp import ExpertsPart, RouterPart
from thirdeye.model.native.activate import ActivateKernel
from thirdeye.model.native.expert_kernels import (
    ExpertsLinearKernel,
    GatherRowsKernel,
    MixExpertsKernel,
    RouteKernel,
)
from thirdeye.model.parts.experts import Experts, Router
from thirdeye.model.parts.fused import FusedGatedMLP
from thirdeye.model.placement import Placement


class NativeRouter(Router):
    """`Router`, whose choice is grouped by expert as well."""

    def __init__(self, part: RouterPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = RouteKernel(where.native, part.spec)

    def forward(self, x: Tensor) -> Any:
        return self._kernel(self.linear(x), self.choice_bias)


class NativeExperts(Experts):
    """`Experts` with each step in C; a CPU's alone."""

    router_class = NativeRouter
    mlp_class = FusedGatedMLP

    def __init__(self, part: ExpertsPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._library = where.native
        self._gather, self._mix = GatherRowsKernel(where.native), MixExpertsKernel(where.native)
        activation = part.experts[0].activation
        self._activate = ActivateKernel(where.native, activation, is_gated=True)
        self._products: tuple[ExpertsLinearKernel, ExpertsLinearKernel] | None = None

    def mixed(self, x: Tensor, routing: Any) -> Tensor:
        x = x.contiguous()
        gate_up, down = self._products = self._products or self._packed()
        rows = self._gather(x, routing.tokens)
        inner = self._activate(gate_up(rows, routing.starts, len(x)))
        said = down(inner, routing.starts, len(x))
        beside = None if self.shared is None else self.shared(x)
        gates = None if self.shared_gate is None else self.shared_gate(x)
        return self._mix(said, routing, beside, gates)

    def _packed(self) -> tuple[ExpertsLinearKernel, ExpertsLinearKernel]:
        """Known when the weights are."""
        layers = ([getattr(e, name).kept for e in self.experts] for name in ("gate_up", "down"))
        gate_up, down = (ExpertsLinearKernel(self._library, kernels) for kernels in layers)
        return gate_up, down
