"""Weights in 8 or 4 bits on a GPU, activations as they are: `--quantize int8` and `int4`.

A step of few tokens takes the time of reading the weights, so half the bytes are nearly half the
time. Up to `DENSE_ROWS` rows one kernel of ours multiplies by what is kept; beyond, arithmetic
decides: the weights are written out as dense ones, for this product alone, and the library
multiplies. Without kernels (no GPU) a layer is its own twin.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.few_rows.around import ALONE, FEW_ROWS, Around, FewRowsMethod
from thirdeye.model.linear.method import FromDense, LinearLayer, replace_weight
from thirdeye.model.linear.rounded import GROUPS, RoundedWeight, round_to_int4, round_to_int8
from thirdeye.model.placement import Placement

DENSE_ROWS = 256


class RoundedLinear(FromDense, FewRowsMethod):
    """y = x W^T + b for weights that `round_weight` made of a checkpoint's."""

    def __init__(self, where: Placement, round_weight: Callable[[Tensor], RoundedWeight]) -> None:
        self._round = round_weight
        self._kernels = Kernels(where.device) if where.is_fused else None

    def finish(self, layer: LinearLayer) -> None:
        """Round the weights; those they came from are freed, unless an embedding has them too."""
        layer.kept = self._round(layer.weight.detach())
        replace_weight(layer, layer.kept.numbers)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        if len(x) < DENSE_ROWS or self._kernels is None:
            return self._multiply(x, layer.kept, layer.bias)
        return F.linear(x, self._kernels.dequantize(layer.kept, x.dtype), layer.bias)

    def multiply_few(
        self, layer: LinearLayer, x: Tensor, around: Around = ALONE
    ) -> tuple[Tensor, Tensor]:
        assert self._kernels is not None, "it takes a GPU"
        return self._kernels.multiply_few(x, self.rounded(layer), layer.bias, around)

    def rounded(self, layer: LinearLayer) -> RoundedWeight:
        """The layer's weights, as they are kept."""
        kept: RoundedWeight = layer.kept
        return kept

    def _multiply(self, x: Tensor, weight: RoundedWeight, bias: Tensor | None) -> Tensor:
        if self._kernels is None:
            return plain_product(x, weight, bias)
        if len(x) <= FEW_ROWS:
            return self._kernels.multiply_few(x, weight, bias)[0]
        return self._kernels.multiply(x, weight, bias)


class WeightOnlyInt8(RoundedLinear):
    """Rows in whole numbers up to 127, a scale each."""

    def __init__(self, where: Placement) -> None:
        super().__init__(where, round_to_int8)


class WeightOnlyInt4(RoundedLinear):
    """Groups of a row's inputs in whole numbers from -8 to 7, a scale each."""

    def __init__(self, where: Placement) -> None:
        super().__init__(where, round_to_int4)

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        check_inputs("int4", GROUPS[-1], in_features, where)
        super().create(layer, in_features, out_features, bias, where)


def check_inputs(name: str, multiple: int, in_features: int, where: Placement) -> None:
    """Raises ValueError for a layer, or a rank's share of one, that a format cannot keep: now, not
    when all weights are loaded."""
    if in_features % multiple:
        size = where.ranks.size
        got = f"{in_features} on each of {size} ranks" if size > 1 else str(in_features)
        raise ValueError(
            f"'--quantize' {name} needs a multiple of {multiple} inputs to every linear layer, "
            f"got {got}: use '--quantize int8' or 'none'{', or fewer ranks' if size > 1 else ''}."
        )


class Kernels:
    """The kernels for rounded weights, imported only where they can run."""

    def __init__(self, device: torch.device) -> None:
        from thirdeye.model.kernels.products import (  # noqa: PLC0415
            dequantize,
            few_rows_matmul,
            quantize_rows,
            quantized_matmul,
        )

        modules: tuple[ModuleType | Any, ...] = (quantized_matmul, dequantize, quantize_rows)
        matmul, dense, rows = modules
        few: Any = few_rows_matmul
        self._matmul = matmul.quantized_matmul
        self._num_multiprocessors = num_multiprocessors(device)
        self.multiply_few: Any = few.FewRowsMatmul(self._num_multiprocessors)
        self.dequantize: Callable[[RoundedWeight, torch.dtype], Tensor] = dense.dequantize
        self.quantize_rows: Callable[[Tensor], tuple[Tensor, Tensor]] = rows.quantize_rows

    def multiply(self, x: Tensor, weight: RoundedWeight, bias: Tensor | None) -> Tensor:
        """x [T, in] -> [T, out]."""
        return self._matmul(x, weight, bias, self._num_multiprocessors)


def plain_product(x: Tensor, weight: RoundedWeight, bias: Tensor | None) -> Tensor:
    """The twin: x [T, in] -> [T, out] in x's dtype, all in fp32 up to there."""
    wide = bias if bias is None else bias.float()
    return F.linear(x.float(), weight.dequantize(), wide).to(x.dtype)


def num_multiprocessors(device: torch.device) -> int:
    """Of a GPU; 1 for triton's interpreter."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
