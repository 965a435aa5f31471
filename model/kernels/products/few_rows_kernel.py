"""x W^T for the few rows of a step of answers, with what lies around it: a norm of x in front, and
behind it a bias, the stream, or the gate of an MLP. One launch for any number of rows up to
FEW_ROWS.

    grid: tiles of BLOCK_N outputs; a gate's tile has their partners as well
    a program: all inputs, WAYS x BLOCK_K of them a step, each warp its own BLOCK_K

The time of it is that of reading the weights, so a program has few outputs and several steps of
them under way; rows are filled up to FEW_ROWS, the tensor cores' smallest number, which costs
nothing. Each warp sums its own inputs in order, the warps' sums are added from the first to the
last: a row's bits depend neither on the number of rows nor on their place, nor on BLOCK_N.

The norm's statistic is taken in the same pass: y = scale * sum(W (gain x)), with scale, of all x,
multiplied last. So no program waits for it, and `gain x` is rounded where the plain norm rounds
twice. In half precision that product may overflow: such layers have their norm apart.

Weights are dense, in 8 bits with a scale a row, or in 4 bits with a scale a group of BLOCK_K inputs
(`model/linear/rounded.py`). Twins: `RMSNorm`, `F.linear` or `RoundedWeight.dequantize`,
`gated_function` and an addition.
"""

import triton
import triton.language as tl

from thirdeye.model.kernels.dependent_launch import begin
from thirdeye.model.kernels.gated_mul import gated
from thirdeye.model.kernels.products.quantized_matmul import small_numbers


@triton.jit
def ask_for(rows, row_bytes, LINES: tl.constexpr):
    """The first lines of rows [N] of weights into the second-level cache, which is where all
    programs' memory meets: nothing is read, nothing can be stale."""
    at = tl.minimum(tl.arange(0, LINES) * 128, row_bytes - 1)  # no address is beyond a row
    lines = rows.to(tl.uint64)[:, None] + at.to(tl.uint64)[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [lines], tl.int32, False, 1
    )


@triton.jit
def take_rows(
    stream, squares, x, delta, gain, at, rows, is_row, in_features,
    HAS_DELTA: tl.constexpr, HAS_NORM: tl.constexpr,
):  # fmt: skip
    """Inputs `at` [W, K] of all rows, as they are multiplied [W, K, M], and their squares."""
    is_inside = at < in_features
    is_loaded = is_row[None, :, None] & is_inside[:, None, :]
    where = rows.to(tl.int64)[None, :, None] * in_features + at[:, None, :]
    own = tl.load(x + where, is_loaded, 0.0)
    if HAS_DELTA:
        added = tl.load(delta + where, is_loaded, 0.0).to(tl.float32)
        own = (own.to(tl.float32) + added).to(own.dtype)
        tl.store(stream + where, own, is_loaded & (tl.program_id(0) == 0))
    if HAS_NORM:
        wide = own.to(tl.float32)
        squares += wide * wide
        gains = tl.load(gain + at, is_inside, 0.0).to(tl.float32)
        own = (wide * gains[:, None, :]).to(own.dtype)
    return tl.permute(own, (0, 2, 1)), squares


@triton.jit
def take_weights(rows, at, is_column, row_size):
    """Numbers `at` [W, K] of the rows of a tile of outputs, [W, N, K]."""
    is_loaded = is_column[None, :, None] & (at < row_size)[:, None, :]
    return tl.load(rows[None, :, None] + at[:, None, :], is_loaded, 0.0)


@triton.jit
def take_scales(scales, group, is_column, num_groups):
    """Those of groups [W] of the rows of a tile of outputs, [W, N]."""
    is_loaded = is_column[None, :] & (group < num_groups)[:, None]
    return tl.load(scales[None, :] + group[:, None], is_loaded, 0.0)


@triton.jit
def add_group(total, numbers, scale, low, high):
    """The products of groups of 4-bit weights: numbers [W, N, K / 2] hold two each."""
    dtype: tl.constexpr = low.dtype
    part = tl.dot(small_numbers(numbers & 15, dtype), low, input_precision="ieee")  # [W, N, M]
    part = tl.dot(small_numbers(numbers >> 4, dtype), high, part, input_precision="ieee")
    return total + part * scale.to(tl.float32)[:, :, None]


@triton.jit
def finish(
    total, norm_scale, scales, bias, columns, is_column,
    HAS_SCALES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """The warps' sums [W, N, M] -> outputs [N, M] float32."""
    y = tl.sum(total, 0)
    if HAS_SCALES:
        y *= tl.load(scales + columns, is_column, 0.0)[:, None]
    y *= norm_scale[None, :]
    if HAS_BIAS:
        y += tl.load(bias + columns, is_column, 0.0).to(tl.float32)[:, None]
    return y


@triton.jit(do_not_specialize=["num_rows", "num_columns"])
def few_rows_matmul_kernel(
    output, stream, x, delta, weight, scales, bias, gain, residual,
    eps, num_rows, num_columns, in_features,
    GROUP: tl.constexpr, HAS_SCALES: tl.constexpr, HAS_DELTA: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    KIND: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    WAYS: tl.constexpr, LINES: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """`num_columns` of the output; with an activation `KIND` the weight has twice as many rows,
    those of the gate first. `GROUP`: inputs of a 4-bit weight's scale, else 0."""
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_column = columns < num_columns
    PACKED: tl.constexpr = 2 if GROUP > 0 else 1  # numbers of a byte
    STEP: tl.constexpr = BLOCK_K // PACKED  # numbers of a tile
    num_groups = tl.cdiv(in_features, BLOCK_K)
    row_size = num_groups * STEP if GROUP > 0 else in_features  # of the weight
    weight_rows = weight + columns.to(tl.int64) * row_size
    half = num_columns.to(tl.int64) * row_size  # where a gate's partners begin
    if DEPENDENT:
        row_bytes = row_size * (weight.dtype.element_ty.primitive_bitwidth // 8)
        own_rows = weight + tl.minimum(columns, num_columns - 1).to(tl.int64) * row_size
        ask_for(own_rows, row_bytes, LINES)
        if KIND != "":
            ask_for(own_rows + half, row_bytes, LINES)
    begin(DEPENDENT)

    rows = tl.arange(0, ROWS)
    is_row = rows < num_rows
    ways = tl.arange(0, WAYS)
    squares = tl.zeros([WAYS, ROWS, STEP], tl.float32)
    total = tl.zeros([WAYS, BLOCK_N, ROWS], tl.float32)
    partner_total = tl.zeros([WAYS, BLOCK_N, ROWS], tl.float32)
    if GROUP > 0:
        own_scales = scales + columns * num_groups
        partner_scales = own_scales + num_columns * num_groups
        # too small to be loaded ahead by the compiler: a step early by hand
        scale = take_scales(own_scales, ways, is_column, num_groups)
        if KIND != "":
            partner_scale = take_scales(partner_scales, ways, is_column, num_groups)
    for first in range(0, num_groups, WAYS):
        group = first + ways  # [W]
        at = group[:, None] * BLOCK_K + tl.arange(0, STEP)[None, :]  # [W, K] inputs
        own, squares = take_rows(
            stream, squares, x, delta, gain, at, rows, is_row, in_features, HAS_DELTA, HAS_NORM
        )
        if GROUP > 0:
            high, squares = take_rows(
                stream, squares, x, delta, gain, at + STEP, rows, is_row, in_features,
                HAS_DELTA, HAS_NORM,
            )  # fmt: skip
            at = group[:, None] * STEP + tl.arange(0, STEP)[None, :]  # bytes
            numbers = take_weights(weight_rows, at, is_column, row_size)
            total = add_group(total, numbers, scale, own, high)
            scale = take_scales(own_scales, group + WAYS, is_column, num_groups)
            if KIND != "":
                numbers = take_weights(weight_rows + half, at, is_column, row_size)
                partner_total = add_group(partner_total, numbers, partner_scale, own, high)
                partner_scale = take_scales(partner_scales, group + WAYS, is_column, num_groups)
        else:
            numbers = take_weights(weight_rows, at, is_column, row_size).to(own.dtype)
            total = tl.dot(numbers, own, total, input_precision="ieee")
            if KIND != "":
                numbers = take_weights(weight_rows + half, at, is_column, row_size).to(own.dtype)
                partner_total = tl.dot(numbers, own, partner_total, input_precision="ieee")

    norm_scale = tl.zeros([ROWS], tl.float32) + 1.0
    if HAS_NORM:
        norm_scale = 1.0 / tl.sqrt(tl.sum(tl.sum(squares, 2), 0) / in_features + eps)
    y = finish(total, norm_scale, scales, bias, columns, is_column, HAS_SCALES, HAS_BIAS)
    dtype = output.dtype.element_ty
    if KIND != "":
        partner = finish(
            partner_total, norm_scale, scales + num_columns if HAS_SCALES else scales,
            bias + num_columns if HAS_BIAS else bias, columns, is_column, HAS_SCALES, HAS_BIAS,
        )  # fmt: skip
        y = gated(y.to(dtype).to(tl.float32), partner.to(dtype).to(tl.float32), KIND, dtype)
    into = rows.to(tl.int64)[None, :] * num_columns + columns[:, None]
    is_ours = is_row[None, :] & is_column[:, None]
    if HAS_RESIDUAL:
        y = y.to(dtype).to(tl.float32) + tl.load(residual + into, is_ours, 0.0).to(tl.float32)
    tl.store(output + into, y.to(dtype), is_ours)
