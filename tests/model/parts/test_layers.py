"""Norms, activations, merged projections: against their formulas, in fp64 where it matters."""

import math

import pytest
import torch
from torch import Tensor

from tests.model.tiny import CPU
from thirdeye.model.config import Activation, Norm
from thirdeye.model.declare.parts import NormPart
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import LinearLayer
from thirdeye.model.native.activate import KINDS
from thirdeye.model.parts.activations import activation_function, gated_function
from thirdeye.model.parts.layers import LayerNorm, RMSNorm
from thirdeye.model.placement import Placement

FP32 = Placement(torch.float32, CPU)


def test_layer_norm() -> None:
    """Mean 0 and variance 1 before weight and bias."""
    norm = LayerNorm(NormPart(Norm.LAYER_NORM, 16, 1e-5), FP32)
    assert norm.bias is not None
    norm.weight.fill_(2)
    norm.bias.fill_(3)
    x = torch.randn(5, 16) * 10 + 4
    wide = x.double()
    expected = (wide - wide.mean(-1, True)) / (
        wide.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(norm(x), (expected * 2 + 3).float())


def test_rms_norm() -> None:
    """No mean is taken away, no bias added."""
    norm = RMSNorm(16, 1e-5, FP32)
    norm.weight.fill_(2)
    x = torch.randn(5, 16) * 10 + 4
    wide = x.double()
    expected = wide / (wide.square().mean(-1, True) + 1e-5).sqrt() * 2
    torch.testing.assert_close(norm(x), expected.float())


def test_rms_norm_squares_in_fp32() -> None:
    """Squares of large fp16 activations overflow; the norm must not."""
    norm = RMSNorm(4, 1e-5, Placement(torch.float16, CPU))
    norm.weight.fill_(1)
    x = torch.full((1, 4), 1000.0, dtype=torch.float16)
    assert torch.equal(norm(x), torch.ones(1, 4, dtype=torch.float16))


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        (Activation.GELU, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        (
            Activation.GELU_TANH,
            lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        (Activation.SILU, lambda x: x / (1 + math.exp(-x))),
        (Activation.RELU, lambda x: max(x, 0.0)),
        (Activation.RELU2, lambda x: max(x, 0.0) ** 2),
    ],
)
def test_activations(activation: Activation, formula) -> None:
    """The two GELUs differ in the fourth digit: enough to tell them apart here."""
    points = [-3.0, -1.5, -0.1, 0.0, 0.4, 2.0]
    expected = torch.tensor([formula(x) for x in points])
    ours = activation_function(activation, FP32)(torch.tensor(points))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_every_activation_has_a_function() -> None:
    """A new name in the config needs a function here."""
    for activation in KINDS:
        assert gated_function(activation, FP32)(torch.zeros(1), torch.ones(1)).item() == 0


def test_a_clamped_swiglu() -> None:
    """Of gates and partners within its limits, at them and far beyond."""
    gates, ups = [-9.0, -1.0, 0.5, 6.9, 7.0, 40.0], [-40.0, -7.0, 0.25, 2.0, 7.5, 1.0]
    expected = [
        min(g, 7) / (1 + math.exp(-1.702 * min(g, 7))) * (max(min(u, 7), -7) + 1)
        for g, u in zip(gates, ups, strict=True)
    ]
    function = gated_function(Activation.CLAMPED_SWIGLU, FP32)
    found = function(torch.tensor(gates), torch.tensor(ups))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-6)


def test_merged_linear_is_its_parts_side_by_side() -> None:
    """One product of a merged layer equals the products of its parts."""
    layer = Linear(8, 10, True, FP32)
    layer.weight.copy_(torch.randn(10, 8))
    layer.bias.copy_(torch.randn(10))
    x = torch.randn(3, 8)
    for rows in (slice(0, 6), slice(6, 10)):
        expected = x @ layer.weight[rows].T + layer.bias[rows]
        torch.testing.assert_close(layer(x)[:, rows], expected)


class Halved:
    """A method that keeps its weights doubled, to see when it is asked for what."""

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        layer.register_parameter("weight", where.empty(out_features, in_features))
        layer.register_parameter("bias", None)

    def finish(self, layer: LinearLayer) -> None:
        layer.weight.mul_(2)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return x @ (layer.weight / 2).T


def test_linear_method_sees_filled_weights_once() -> None:
    """The seam for quantization: create, fill, finish, apply."""
    layer = Linear(4, 3, False, FP32, method=Halved())
    weight = torch.randn(3, 4)
    layer.weight.copy_(weight)
    layer.finish()
    x = torch.randn(2, 4)
    assert torch.equal(layer.weight, weight * 2)
    torch.testing.assert_close(layer(x), x @ weight.T)
