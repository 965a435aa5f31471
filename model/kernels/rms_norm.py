"""Add to the residual stream and norm it, in one pass: a row is read once and written twice.

The plain form reads and writes the stream six times, in as many kernels. One program does one row,
in the plain form's order of rounding: the sum is rounded to the stream's dtype before its mean
square is taken, the normed row before it meets the weight. The twin is `RMSNorm` in
`model/parts/layers.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options


@triton.jit
def rms_norm_kernel(
    normed, stream, x, delta, weight, size, eps,
    HAS_DELTA: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64) * size
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    wide = tl.load(x + row + columns, inside, 0.0).to(tl.float32)
    if HAS_DELTA:
        added = tl.load(delta + row + columns, inside, 0.0).to(tl.float32)
        total = (wide + added).to(stream.dtype.element_ty)
        tl.store(stream + row + columns, total, inside)
        wide = total.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / size + eps)
    rounded = (wide * scale).to(normed.dtype.element_ty).to(tl.float32)
    gain = tl.load(weight + columns, inside, 0.0).to(tl.float32)
    tl.store(normed + row + columns, (rounded * gain).to(normed.dtype.element_ty), inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [T, hidden_size], weight [hidden_size] -> [T, hidden_size]."""
    return _launch(x, None, weight, eps)[1]


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x, delta [T, hidden_size] -> (x + delta, its norm), both [T, hidden_size]."""
    return _launch(x, delta.contiguous(), weight, eps)


def _launch(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    rows, size = x.shape
    stream = x if delta is None else torch.empty_like(x)
    normed = torch.empty_like(x)
    if rows:
        rms_norm_kernel[(rows,)](
            normed, stream, x, x if delta is None else delta, weight, size, eps,
            HAS_DELTA=delta is not None, BLOCK=triton.next_power_of_2(size),
            num_warps=4 if size <= 2048 else 8, **launch_options(x.device),
        )  # fmt: skip
    return stream, normed
