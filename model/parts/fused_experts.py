"""A layer of experts in kernels of our own: on a CPU in C, from tape or not; on a GPU in triton,
where nothing of the choice is read on the host."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.declare.mlp import ExpertsPart, GatedMLPPart, RouterPart
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.unquantized import Unquantized
from thirdeye.model.native.activate import ActivateKernel
from thirdeye.model.native.expert_kernels import (
    ExpertsLinearKernel,
    GatherRowsKernel,
    MixExpertsKernel,
    RouteKernel,
)
from thirdeye.model.parts.activations import activation_function
from thirdeye.model.parts.experts import Experts, Router, Routing
from thirdeye.model.parts.fused import FusedGatedMLP, NativeMLP
from thirdeye.model.parts.layers import GatedMLP
from thirdeye.model.placement import Placement


class NativeRouter(Router):
    """`Router`, whose choice is grouped by expert as well."""

    def __init__(self, part: RouterPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._kernel = RouteKernel(where.native, part.spec)

    def forward(self, x: Tensor) -> Any:
        return self._kernel(self.linear(x), self.choice_bias, self.expert_scales)


class NativeExperts(Experts):
    """`Experts` with each step in C; a CPU's alone."""

    router_class = NativeRouter
    mlp_class = FusedGatedMLP
    plain_class = NativeMLP

    def __init__(self, part: ExpertsPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._library = where.native
        self._gather, self._mix = GatherRowsKernel(where.native), MixExpertsKernel(where.native)
        one = part.experts[0]
        is_gated = isinstance(one, GatedMLPPart)
        self._activate = ActivateKernel(where.native, one.activation, is_gated=is_gated)
        self._products: tuple[ExpertsLinearKernel, ExpertsLinearKernel] | None = None

    def mixed(self, x: Tensor, routing: Any) -> Tensor:
        x = x.contiguous()
        up, down = self._products = self._products or self._packed()
        rows = self._gather(x, routing, is_scaled=self._scales_input)
        inner = self._activate(up(rows, routing.starts, len(x)))
        said = down(inner, routing.starts, len(x))
        beside = None if self.shared is None else self.shared(x)
        gates = None if self.shared_gate is None else self.shared_gate(x)
        return self._mix(said, routing, beside, gates, is_weighed=not self._scales_input)

    def _packed(self) -> tuple[ExpertsLinearKernel, ExpertsLinearKernel]:
        """Known when the weights are."""
        layers = ([layer.kept for layer in layers] for layers in products_of(self))
        up, down = (ExpertsLinearKernel(self._library, kernels) for kernels in layers)
        return up, down


class FusedExperts(Experts):
    """`Experts` with each of its products in one launch; a GPU's. All experts' weights of a kind
    are one tensor, of which each expert has its part."""

    def __init__(self, part: ExpertsPart, where: Placement) -> None:
        """Raises ValueError for a format that experts are not kept in there."""
        if where.quantize != "none":
            raise ValueError(
                f"'--quantize' {where.quantize} is not there for experts on a GPU: use 'none'."
            )
        super().__init__(part, where)
        from thirdeye.model.kernels import gated_mul  # noqa: PLC0415  # needs triton
        from thirdeye.model.kernels.products import grouped_matmul  # noqa: PLC0415

        self._kernels: Any = grouped_matmul
        one = part.experts[0]
        self._activate = (
            partial(gated_mul.gated_mul, activation=one.activation)
            if isinstance(one, GatedMLPPart)
            else activation_function(one.activation, where)
        )
        self._up, self._down = (_stacked(layers, where) for layers in products_of(self))

    def said(self, x: Tensor, routing: Routing) -> Tensor:
        groups = self._kernels.group_rows(routing.chosen, len(self.experts))
        rows = x.index_select(0, groups.tokens)
        if self._scales_input:
            weights = torch.empty_like(routing.weights).flatten()
            weights.scatter_(0, groups.places, routing.weights.flatten())
            rows = rows * weights[:, None].to(x.dtype)
        inner = self._activate(self._kernels.grouped_matmul(rows, *self._up, groups))
        answers = self._kernels.grouped_matmul(inner, *self._down, groups)
        return answers.index_select(0, groups.places).view(*routing.chosen.shape, -1)


def products_of(layer: Experts) -> tuple[list[Any], list[Any]]:
    """The first of each expert, which of an MLP with a gate is two in one, and the second."""
    experts: list[Any] = list(layer.experts)
    up = [expert.gate_up if isinstance(expert, GatedMLP) else expert.up for expert in experts]
    return up, [expert.down for expert in experts]


def _stacked(layers: list[Linear], where: Placement) -> tuple[Tensor, Tensor | None]:
    """weight [experts, out, in] and bias [experts, out], whose parts become the layers' own."""
    weight = where.empty(len(layers), *layers[0].weight.shape).detach()
    bias = None if layers[0].bias is None else where.empty(*weight.shape[:2]).detach()
    for expert, layer in enumerate(layers):
        layer.method = Unquantized()  # which leaves them where they are
        layer.weight = nn.Parameter(weight[expert], requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias[expert], requires_grad=False)
    return weight, bias
