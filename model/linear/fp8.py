"""Weights and activations in 8-bit floats on a GPU: `--quantize fp8`.

Few rows: the weights' reading is the time, activations stay as they are and the product is that of
`weight_only.py`. More rows: each token's vector is rounded by its own maximum and the tensor cores
multiply 8 bits by 8, twice as fast as 16 by 16, with sums in fp32; `torch._scaled_mm` applies the
scales of rows and of columns. The twin is the product of both dequantized (`rounded.py`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.linear.method import LinearLayer
from thirdeye.model.linear.rounded import FP8, RoundedWeight, round_to_fp8
from thirdeye.model.linear.weight_only import RoundedLinear, check_inputs
from thirdeye.model.placement import Placement

FEW_ROWS = 16  # one tile of the tensor cores
MULTIPLE = 16  # of inputs and outputs, as the library's kernels want them


class Fp8(RoundedLinear):
    """y = x W^T + b, both factors in e4m3 where there are more than `few_rows`."""

    def __init__(self, where: Placement, few_rows: int = FEW_ROWS) -> None:
        super().__init__(where, round_to_fp8)
        self._few_rows = few_rows

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        check_inputs("fp8", MULTIPLE, in_features, where)
        super().create(layer, in_features, out_features, bias, where)

    def finish(self, layer: LinearLayer) -> None:
        """Round the weights, and fill up their rows to what the library's kernels want."""
        super().finish(layer)
        kept: RoundedWeight = layer.kept
        missing = -kept.out_features % MULTIPLE
        if missing:
            filled = F.pad(kept.numbers.view(torch.uint8), (0, 0, 0, missing)).view(FP8)
            kept = RoundedWeight(filled, F.pad(kept.scales, (0, 0, 0, missing)), 0)
            is_own = isinstance(layer.weight, nn.Parameter)
            layer.weight = nn.Parameter(filled, requires_grad=False) if is_own else filled
        layer.kept = Fp8Weight(kept, kept.out_features - missing)

    def rounded(self, layer: LinearLayer) -> RoundedWeight:
        weight: Fp8Weight = layer.kept
        return weight.rows

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        weight: Fp8Weight = layer.kept
        if len(x) <= self._few_rows:
            return self._multiply(x, weight.rows, layer.bias)
        numbers, scales = self._quantize_rows(x)
        y: Tensor = torch._scaled_mm(
            *(numbers, weight.filled.numbers.t()),
            scale_a=scales,  # [T, 1]
            scale_b=weight.filled.scales.t(),  # [1, out]
            out_dtype=x.dtype,
        )
        y = y[:, : weight.num_rows]
        return y if layer.bias is None else y + layer.bias

    def _quantize_rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._kernels is not None:
            return self._kernels.quantize_rows(x)
        rounded = round_to_fp8(x)
        return rounded.numbers, rounded.scales


@dataclass(frozen=True, slots=True)
class Fp8Weight:
    """A layer's rows, and behind them the zeros that fill them up to a multiple."""

    filled: RoundedWeight
    num_rows: int

    @property
    def rows(self) -> RoundedWeight:
        """Those that are the layer's own: the same memory."""
        filled = self.filled
        return RoundedWeight(filled.numbers[: self.num_rows], filled.scales[: self.num_rows], 0)
