"""The few rows of a step of answers times a layer's weights, with what lies around the product, in
one launch: see `few_rows_kernel.py`, whose arguments are made here.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from thirdeye.model.few_rows.around import ALONE, FEW_ROWS, Around
from thirdeye.model.kernels.dependent_launch import launch_options
from thirdeye.model.kernels.products.few_rows_kernel import few_rows_matmul_kernel
from thirdeye.model.linear.rounded import RoundedWeight

WAYS = 4  # warps of a program, each with inputs of its own
BYTES_OF_A_STEP = 128  # of an output's weights, by one warp; of 4-bit ones a group
LINES = 16  # of 128 bytes, of each output's weights, that are asked for before the wait


@dataclass(frozen=True, slots=True)
class FewRowsMatmul:
    """Multiplies on a GPU of so many multiprocessors, which decide how many outputs a tile has."""

    num_multiprocessors: int

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | RoundedWeight,
        bias: Tensor | None,
        around: Around = ALONE,
    ) -> tuple[Tensor, Tensor]:
        """x [T, in], weight [out, in], bias [out] -> y [T, out], and the stream that was normed:
        x [T, in] with `around.delta`. With an activation y is half as wide: the weight's first rows
        are a gate's, the others its partner's."""
        scales: Tensor | None = None
        numbers, group = weight, 0
        if isinstance(weight, RoundedWeight):
            numbers, scales, group = weight.numbers, weight.scales, weight.group
        x, (num_rows, in_features) = x.contiguous(), x.shape
        delta, residual, norm = around.delta, around.residual, around.norm
        activation = around.activation
        num_columns = len(numbers) // (1 if activation is None else 2)
        output = torch.empty(num_rows, num_columns, dtype=x.dtype, device=x.device)
        stream = x if delta is None else torch.empty_like(x)
        if not num_rows:
            return output, stream
        cut = self.cut(num_columns, numbers.element_size(), group, activation is not None)
        few_rows_matmul_kernel[(triton.cdiv(num_columns, cut.columns),)](
            output, stream, x, None if delta is None else delta.contiguous(), numbers, scales, bias,
            norm.weight if norm else None, None if residual is None else residual.contiguous(),
            norm.eps if norm else 0.0, num_rows, num_columns, in_features,
            GROUP=group, HAS_SCALES=scales is not None and not group, HAS_DELTA=delta is not None,
            HAS_NORM=norm is not None, HAS_BIAS=bias is not None,
            HAS_RESIDUAL=residual is not None, KIND=activation.value if activation else "",
            ROWS=FEW_ROWS, BLOCK_N=cut.columns, BLOCK_K=cut.inputs, WAYS=WAYS, LINES=LINES,
            num_warps=WAYS, num_stages=cut.num_stages, **launch_options(x.device),
        )  # fmt: skip
        return output, stream

    def cut(self, num_columns: int, number_bytes: int, group: int, is_gate: bool) -> "FewRowsCut":
        """Wide tiles read x less often, narrow ones are enough for every multiprocessor."""
        is_wide = not is_gate and triton.cdiv(num_columns, 32) >= 2 * self.num_multiprocessors
        inputs = group or BYTES_OF_A_STEP // number_bytes
        return FewRowsCut(32 if is_wide else 16, inputs, num_stages=5 if group else 4)


@dataclass(frozen=True, slots=True)
class FewRowsCut:
    """How a product is cut: by its layer, never by the number of rows."""

    columns: int
    inputs: int  # of one warp's step
    num_stages: int
