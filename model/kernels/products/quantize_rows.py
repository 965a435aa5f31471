"""Activations in 8-bit floats: each token's vector by its own maximum, in one pass.

One program reads a row, keeps it, finds its maximum and writes it rounded: done by torch's own
functions this is five kernels. A row's scale is its own, so no token's numbers depend on its
company; a row with a NaN or an infinity has a scale that is one too, so its results are broken as
well. The twin is `round_to_fp8` in `model/linear/rounded.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.linear.rounded import FP8, LARGEST_FP8, SMALLEST


@triton.jit
def quantize_rows_kernel(
    numbers, scales, x, size,
    LARGEST: tl.constexpr, SMALLEST: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    wide = tl.load(x + row * size + columns, inside, 0.0).to(tl.float32)
    is_broken = tl.max((wide != wide).to(tl.int32), 0) > 0  # a maximum need not be NaN by itself
    scale = tl.maximum(tl.max(tl.abs(wide), 0), SMALLEST) / LARGEST
    scale = tl.where(is_broken, float("nan"), scale)
    number = wide / scale  # may leave the range by a rounding; beyond it there is only NaN
    number = tl.where(number > LARGEST, LARGEST, number)
    number = tl.where(number < -LARGEST, -LARGEST, number)
    tl.store(numbers + row * size + columns, number.to(numbers.dtype.element_ty), inside)
    tl.store(scales + row, scale)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, n] -> (numbers [T, n] float8, what one is worth [T, 1] float32)."""
    x = x.contiguous()
    num_rows, size = x.shape
    numbers = torch.empty(x.shape, dtype=FP8, device=x.device)
    scales = torch.empty(num_rows, 1, dtype=torch.float32, device=x.device)
    if num_rows:
        block = triton.next_power_of_2(size)
        quantize_rows_kernel[(num_rows,)](
            numbers, scales, x, size, LARGEST=LARGEST_FP8, SMALLEST=SMALLEST, BLOCK=block,
            num_warps=4 if block <= 4096 else 8, **launch_options(x.device),
        )  # fmt: skip
    return numbers, scales
