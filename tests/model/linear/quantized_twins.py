"""The GPU's quantized layers against plain twins, on any device: the interpreter, a real GPU.

A weight is rounded by plain torch, so layer and twin hold the same numbers; they differ in the
order of sums alone. How far rounding itself takes a layer from its weights is a bound of its own.
"""

import torch
from torch import Tensor

from tests.model.fused_twins import close, noise
from thirdeye.model.linear.fp8 import Fp8, Fp8Weight
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.rounded import FP8, LARGEST_FP8, RoundedWeight, round_to_fp8
from thirdeye.model.linear.weight_only import WeightOnlyInt4, WeightOnlyInt8, plain_product
from thirdeye.model.placement import Placement

METHODS: dict[str, type[WeightOnlyInt8 | WeightOnlyInt4 | Fp8]] = {
    "int8": WeightOnlyInt8,
    "int4": WeightOnlyInt4,
    "fp8": Fp8,
}
ROUNDING = {"int8": 0.01, "int4": 0.2, "fp8": 0.05}  # of the size that a random product has


def make_layer(
    name: str, in_features: int, out_features: int, bias: bool, where: Placement
) -> tuple[Linear, Tensor]:
    """A finished layer with random parameters, and the weight it was made of."""
    method: LinearMethod = METHODS[name](where)
    layer = Linear(in_features, out_features, bias, where, method=method)
    for parameter in layer.parameters():
        parameter.copy_(noise(*parameter.shape, where=where))
    weight = layer.weight.detach().clone()
    layer.finish()
    return layer, weight


def kept(layer: Linear) -> RoundedWeight:
    return layer.kept.rows if isinstance(layer.kept, Fp8Weight) else layer.kept


def check_product(
    name: str, rows: int, in_features: int, out_features: int, where: Placement, bias: bool = True
) -> None:
    """The layer's output is its twin's, and near that of the weights before they were rounded."""
    layer, weight = make_layer(name, in_features, out_features, bias, where)
    x = noise(rows, in_features, where=where)
    if name == "fp8" and where.device.type == "cpu":
        x = on_the_grid(x)
    y = layer(x)
    assert y.dtype == where.dtype
    seen = x
    if name == "fp8" and rows > 16:  # activations are rounded too
        seen = round_to_fp8(x).dequantize()
    twin = plain_product(seen, kept(layer), layer.bias).to(where.dtype)
    scale = in_features**0.5 * x.abs().max()  # the size of a sum of so many products
    close(y / scale, twin / scale)
    exact = x.double() @ weight.double().T + (layer.bias.double() if bias else 0)
    sizes = x.double().square().sum(1)[:, None] * weight.double().square().sum(1)
    error = (y.double() - exact).norm() / (sizes.sum() / in_features).sqrt()
    assert error < ROUNDING[name] + torch.finfo(where.dtype).eps, error


def on_the_grid(x: Tensor) -> Tensor:
    """Numbers that are 8-bit floats already: rounding up to a power of 2, triton's interpreter
    loses the carry."""
    dtype, x = x.dtype, (100 * x).to(FP8)
    x[:, 0] = LARGEST_FP8
    return x.to(dtype)
