"""No quantization, and rows that do not know of each other: on a GPU, with `--deterministic`.

A kernel of ours multiplies, in one order of sums for every number of rows, where a library would
choose by it; see `model/kernels/products/fixed_matmul.py`. What `model/linear/row_invariant.py` is
on a CPU.
"""

from typing import Any

from torch import Tensor

from thirdeye.model.linear.method import LinearLayer
from thirdeye.model.linear.unquantized import Unquantized


class FixedTile(Unquantized):
    """y = x W^T + b. Kernels are imported here: a machine without triton has everything but it."""

    def __init__(self, num_multiprocessors: int) -> None:
        from thirdeye.model.kernels.products.fixed_matmul import FixedMatmul  # noqa: PLC0415

        self._multiply: Any = FixedMatmul(num_multiprocessors)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return self._multiply(x, layer.weight, layer.bias)
