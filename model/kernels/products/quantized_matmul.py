"""x W^T for weights in 8 or 4 bits: numbers become floats in registers, scales meet the sums.

    grid: tiles of outputs x tiles of rows x splits of the inputs

Whole numbers this small are exact in bf16, so nothing is rounded before the product; sums are fp32,
and a scale is applied once to a row's sum (int8, fp8) or to a group's (int4). With few rows the
time is that of reading the weights: where outputs alone make too few tiles to keep every
multiprocessor reading, the inputs are cut too, each split leaves its sums in memory, and
`add_splits_kernel` adds them from the first to the last. The cut depends on the layer and never on
the number of rows. The twin is `x @ RoundedWeight.dequantize().T`.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.linear.rounded import RoundedWeight

BLOCK_K = 128  # inputs of one inner step, where scales are one a row
MAX_SPLITS = 16
MIN_STEPS = 4  # inner steps that a split is worth
BF16_128 = tl.constexpr(0x4300)  # 128 in bf16: 7 bits of its fraction are left, one is worth 1
FP16_1024 = tl.constexpr(0x6400)


@triton.jit
def small_numbers(halves, dtype: tl.constexpr):
    """Numbers of 4 bits, 8 added to them, as floats.

    Set as the lowest bits of 128 in bf16, or of 1024 in fp16, they add to it: cheaper than a
    conversion.
    """
    if dtype == tl.bfloat16:
        base = tl.full([1, 1], 136.0, tl.float32).to(tl.bfloat16)
        numbers = (halves.to(tl.int16) | BF16_128).to(tl.bfloat16, bitcast=True) - base
    elif dtype == tl.float16:
        base = tl.full([1, 1], 1032.0, tl.float32).to(tl.float16)
        numbers = (halves.to(tl.int16) | FP16_1024).to(tl.float16, bitcast=True) - base
    else:
        numbers = halves.to(tl.float32) - 8.0
    return numbers.to(dtype)


@triton.jit(do_not_specialize=["num_rows"])  # one machine code for every number of rows
def quantized_matmul_kernel(
    output, x, numbers, scales, bias, num_rows, out_features, in_features,
    GROUP: tl.constexpr, NUM_SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """`GROUP` is 0 where scales are one a row; else it is `BLOCK_K`."""
    begin(DEPENDENT)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(2)
    is_column, is_row = columns < out_features, rows < num_rows
    steps = tl.cdiv(in_features, BLOCK_K)
    first, last = split * steps // NUM_SPLITS, (split + 1) * steps // NUM_SPLITS
    x_rows = x + rows.to(tl.int64)[:, None] * in_features
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if GROUP > 0:
        HALF: tl.constexpr = BLOCK_K // 2
        lower = tl.arange(0, HALF)
        pairs = numbers + columns.to(tl.int64)[:, None] * (in_features // 2)
        column_scales = scales + columns * (in_features // GROUP)
        for step in range(first, last):
            at = x_rows + step * BLOCK_K + lower[None, :]
            low = tl.load(at, is_row[:, None], 0.0)  # [M, HALF]
            high = tl.load(at + HALF, is_row[:, None], 0.0)
            both = tl.load(pairs + step * HALF + lower[None, :], is_column[:, None], 0)  # [N, HALF]
            lows = small_numbers(both & 15, x.dtype.element_ty)
            highs = small_numbers(both >> 4, x.dtype.element_ty)
            part = tl.dot(low, tl.trans(lows), input_precision="ieee")  # [M, N]
            part = tl.dot(high, tl.trans(highs), part, input_precision="ieee")
            scale = tl.load(column_scales + step, is_column, 0.0).to(tl.float32)
            total += part * scale[None, :]
    else:
        inner = tl.arange(0, BLOCK_K)
        row_numbers = numbers + columns.to(tl.int64)[:, None] * in_features
        for step in range(first, last):
            at = step * BLOCK_K + inner  # [K]
            is_inside = at < in_features
            a = tl.load(x_rows + at[None, :], is_row[:, None] & is_inside[None, :], 0.0)
            b = tl.load(row_numbers + at[None, :], is_column[:, None] & is_inside[None, :], 0.0)
            b = b.to(x.dtype.element_ty)  # [N, K]
            total = tl.dot(a, tl.trans(b), total, input_precision="ieee")
        total *= tl.load(scales + columns, is_column, 0.0)[None, :]
    if HAS_BIAS and NUM_SPLITS == 1:
        total += tl.load(bias + columns, is_column, 0.0).to(tl.float32)[None, :]
    into = (split.to(tl.int64) * num_rows + rows)[:, None] * out_features + columns[None, :]
    tl.store(output + into, total.to(output.dtype.element_ty), is_row[:, None] & is_column[None, :])


@triton.jit(do_not_specialize=["num_rows"])
def add_splits_kernel(
    output, shares, bias, num_rows, out_features,
    NUM_SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (rows, tiles of outputs): shares [splits, rows, out] fp32 -> output [rows, out]."""
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = columns < out_features
    total = tl.zeros([BLOCK], tl.float32)
    for split in range(NUM_SPLITS):
        own = shares + (split * num_rows + row) * out_features
        total += tl.load(own + columns, is_column, 0.0)
    if HAS_BIAS:
        total += tl.load(bias + columns, is_column, 0.0).to(tl.float32)
    tl.store(output + row * out_features + columns, total.to(output.dtype.element_ty), is_column)


@dataclass(frozen=True, slots=True)
class Cut:
    """How the product is cut for a number of rows."""

    rows: int
    columns: int
    num_splits: int
    num_warps: int
    num_stages: int


def choose_cut(num_rows: int, weight: RoundedWeight, num_multiprocessors: int) -> Cut:
    """Few rows: tiles for every multiprocessor. Many: tiles that use what they read often."""
    if num_rows > 64:
        return Cut(64, 128, 1, num_warps=4, num_stages=3)
    height = max(16, triton.next_power_of_2(num_rows))  # the tensor cores' smallest tile is 16
    tiles = triton.cdiv(weight.out_features, 64)
    steps = triton.cdiv(weight.in_features, weight.group or BLOCK_K)
    wanted = triton.cdiv(2 * num_multiprocessors, tiles)
    splits = max(1, min(wanted, steps // MIN_STEPS, MAX_SPLITS))
    return Cut(height, 64, splits, num_warps=4, num_stages=4)


def quantized_matmul(
    x: Tensor, weight: RoundedWeight, bias: Tensor | None, num_multiprocessors: int
) -> Tensor:
    """x [T, in], bias [out] or None -> [T, out], in x's dtype."""
    x = x.contiguous()
    num_rows, out_features = len(x), weight.out_features
    output = torch.empty(num_rows, out_features, dtype=x.dtype, device=x.device)
    if not num_rows:
        return output
    cut = choose_cut(num_rows, weight, num_multiprocessors)
    shares = output
    if cut.num_splits > 1:
        shape = (cut.num_splits, num_rows, out_features)
        shares = torch.empty(shape, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(out_features, cut.columns), triton.cdiv(num_rows, cut.rows), cut.num_splits)
    quantized_matmul_kernel[grid](
        shares, x, weight.numbers, weight.scales, bias, num_rows, out_features, weight.in_features,
        GROUP=weight.group, NUM_SPLITS=cut.num_splits, HAS_BIAS=bias is not None,
        BLOCK_M=cut.rows, BLOCK_N=cut.columns, BLOCK_K=weight.group or BLOCK_K,
        num_warps=cut.num_warps, num_stages=cut.num_stages, **launch_options(x.device),
    )  # fmt: skip
    if cut.num_splits > 1:
        add_splits_kernel[num_rows, triton.cdiv(out_features, 256)](
            output, shares, bias, num_rows, out_features,
            NUM_SPLITS=cut.num_splits, HAS_BIAS=bias is not None, BLOCK=256, num_warps=2,
            **launch_options(x.device),
        )  # fmt: skip
    return output
