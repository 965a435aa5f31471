"""Weights in 8 bits, activations in 16, sums in 32-bit integers: the default on the CPU.

A weight row is kept as whole numbers up to 127 and a scale. A token's vector is rounded when it
comes, by its own maximum and nobody else's, to numbers of two digits in base 256: processors
multiply 8 bits by 8, so the digits go through the product as two rows, and the weights, whose
reading is what takes the time, are read once for both. With one digit the default model's
perplexity rises by 2 to 3 %, for a few activations are large; with two it rises by 0.4 %.

The product is a sum of integers below 2^31, the same in any order and in any batch: a token's bits
do not depend on its company. A slow exact twin is in `tests/model/linear/test_int8.py`, figures are
in `docs/cpu.md`.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from thirdeye.model.linear.method import FromDense, LinearLayer, replace_weight
from thirdeye.model.placement import Placement

LARGEST = 127  # of a digit; -128 is left out of the upper one, so that the range is symmetric
BASE = 256
ZERO = 128  # added to each digit where they are kept unsigned, as most instructions want them
MAX_IN_FEATURES = (2**31 - 1) // ((BASE - 1) * LARGEST)  # beyond it a sum may leave 32 bits
SMALLEST = 1e-30  # a row's maximum counts as this at least: a row of zeros stays zeros


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """One layer's weights: whole numbers packed as oneDNN likes them, and what one is worth."""

    packed: Tensor  # [out, in] int8
    scale: Tensor  # [out] float32
    zero_points: Tensor  # [out] int64, all 0
    is_signed: bool  # how its digits have to come

    def multiply(self, digits: Tensor) -> Tensor:
        """digits [R, in] int8, or uint8 with ZERO added -> [R, out] float32."""
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(digits, 1.0, 0 if self.is_signed else ZERO),
            *(self.packed, self.scale, self.zero_points, None),  # no bias
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        return y


class Int8(FromDense):
    """y = x W^T + b. After `finish`, `weight` is packed integers: in no order of ours."""

    @staticmethod
    def is_available(where: Placement) -> bool:
        """Whether the kernels are there, quick and exact, and activations come in fp32."""
        is_fp32_on_cpu = where.device.type == "cpu" and where.dtype == torch.float32
        has_kernels = torch._C._has_mkldnn and torch.cpu._is_vnni_supported()
        return is_fp32_on_cpu and has_kernels and sums_are_exact()

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        if in_features > MAX_IN_FEATURES:
            raise ValueError(
                f"'--quantize' int8 sums at most {MAX_IN_FEATURES:,} products exactly, "
                f"got {in_features:,}: use '--quantize none'."
            )
        super().create(layer, in_features, out_features, bias, where)

    def finish(self, layer: LinearLayer) -> None:
        """Round the weights; the fp32 ones are freed, unless an embedding has them too."""
        layer.kept = quantize_weight(layer.weight.detach())
        replace_weight(layer, layer.kept.packed)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        weight: Int8Weight = layer.kept
        digits, scale = split_rows(x, weight.is_signed)
        lower, upper = weight.multiply(digits.flatten(0, 1)).view(2, len(x), len(weight.scale))
        y = lower.add_(upper, alpha=BASE).mul_(scale)  # [T, out]
        return y if layer.bias is None else y.add_(layer.bias)


def split_rows(x: Tensor, is_signed: bool) -> tuple[Tensor, Tensor]:
    """x [T, n] -> (digits [2, T, n], the lower ones first; what a unit is worth [T, 1]).

    The digits are int8, or uint8 with ZERO added.
    A row with a NaN or an infinity has a unit that is one too, so its results are broken as well.
    """
    unit = x.abs().amax(-1, keepdim=True).clamp_min_(SMALLEST).mul_(1 / (LARGEST * BASE))
    # ZERO in both digits, and a half, since the conversion cuts off.
    zeros = ZERO * BASE + ZERO
    whole = x.div(unit).add_(zeros + 0.5).to(torch.int32)
    if is_signed:
        whole.bitwise_xor_(zeros)  # takes ZERO from each byte
    byte = torch.int8 if is_signed else torch.uint8
    digits = whole.view(byte).view(*x.shape, 4)[..., :2]  # bytes, least first
    return digits.permute(2, 0, 1), unit


def quantize_weight(weight: Tensor) -> Int8Weight:
    """weight [out, in] -> its whole numbers, rounded row by row, and their scales."""
    scale = weight.float().abs().amax(-1, keepdim=True).clamp_min_(SMALLEST) / LARGEST
    rows = weight.div(scale).round_().to(torch.int8)
    return _pack(rows, scale.flatten(), needs_signed_digits())


def _pack(rows: Tensor, scale: Tensor, is_signed: bool) -> Int8Weight:
    """rows [out, in] int8, scale [out] float32."""
    packed = torch.ops.onednn.qlinear_prepack(rows, None)
    zero_points = torch.zeros(len(rows), dtype=torch.int64)
    return Int8Weight(packed, scale, zero_points, is_signed)


@cache
def needs_signed_digits() -> bool:
    """Whether sums of unsigned digits lose their last bits here.

    With AMX, from 5 rows on, oneDNN takes ZERO's share off in float32, which has room for sums to
    2^24. Without AMX signed digits are right as well, and up to 1,000 times as slow.
    """
    count = 2049
    rows = torch.full((16, count), LARGEST, dtype=torch.int8)
    weight = _pack(rows, torch.ones(16), is_signed=False)
    digits = torch.full((17, count), ZERO + 1, dtype=torch.uint8)
    return not bool((weight.multiply(digits) == count * LARGEST).all())


def sums_are_exact() -> bool:
    """Whether the largest sums come out right: some processors saturate at 16 bits on the way."""
    weight = quantize_weight(torch.ones(16, 256))
    exact = float(256 * LARGEST * LARGEST) * weight.scale  # [16]
    largest = torch.full((17, 256), float(LARGEST * BASE))
    digits = split_rows(largest, weight.is_signed)[0][1]  # [17, 256], each LARGEST
    return all(bool((weight.multiply(digits[:count]) == exact).all()) for count in (2, 17))
