"""No quantization: weights are kept and multiplied in the model's dtype."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.few_rows.around import ALONE, FEW_ROWS, Around, FewRowsMethod
from thirdeye.model.linear.method import FromDense, LinearLayer


class Unquantized(FromDense):
    """y = x W^T + b."""

    def finish(self, layer: LinearLayer) -> None:
        """Nothing to do: the weights are used as they were loaded."""

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight, layer.bias)


class DenseOnGPU(Unquantized, FewRowsMethod):
    """The same by a kernel of ours for few rows, by the library's for more. Kernels are imported
    here: a machine without triton has everything but it."""

    def __init__(self, num_multiprocessors: int) -> None:
        from thirdeye.model.kernels.products import few_rows_matmul  # noqa: PLC0415

        self._few: Any = few_rows_matmul.FewRowsMatmul(num_multiprocessors)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return self.multiply_few(layer, x)[0] if len(x) <= FEW_ROWS else super().apply(layer, x)

    def multiply_few(
        self, layer: LinearLayer, x: Tensor, around: Around = ALONE
    ) -> tuple[Tensor, Tensor]:
        return self._few(x, layer.weight, layer.bias, around)
