"""Rows grouped by expert, each times its expert's own matrix, in one launch.

    grid: tiles of some expert's rows x tiles of outputs

How many rows an expert has is known on the GPU alone, and nobody waits for it: there are as many
programs as tiles can be needed, each looks up whose tile it is, and those past the last do nothing.
A tile is the same for every number of rows and a sum is made from the first input to the last, so
a row's bits do not depend on who shares its expert. The twin is `F.linear`, expert by expert.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options

BLOCK_M = 16  # few rows share an expert in a step of answers
BLOCK_N = 64
BLOCK_K = 64


@triton.jit
def grouped_matmul_kernel(
    output, x, weight, bias, starts, first_tiles, tile_experts, num_experts,
    out_features, in_features,
    HAS_BIAS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """x [rows, in], weight [experts, out, in], bias [experts, out] -> [rows, out]."""
    begin(DEPENDENT)
    tile = tl.program_id(0)
    expert = tl.load(tile_experts + tile)
    if expert < num_experts:
        first = tl.load(starts + expert)
        stop = tl.load(starts + expert + 1)
        place = tile - tl.load(first_tiles + expert)
        rows = (first + place * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
        columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        is_row, is_column = rows < stop, columns < out_features
        own = expert.to(tl.int64) * out_features
        x_rows = x + rows[:, None] * in_features
        weight_rows = weight + (own + columns)[:, None] * in_features
        inner = tl.arange(0, BLOCK_K)
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, in_features, BLOCK_K):
            at = start + inner
            is_inside = (at < in_features)[None, :]
            a = tl.load(x_rows + at[None, :], is_row[:, None] & is_inside, 0.0)
            b = tl.load(weight_rows + at[None, :], is_column[:, None] & is_inside, 0.0)
            total = tl.dot(a, tl.trans(b), total, input_precision="ieee")
        if HAS_BIAS:
            total += tl.load(bias + own + columns, is_column, 0.0).to(tl.float32)[None, :]
        into = rows[:, None] * out_features + columns[None, :]
        is_ours = is_row[:, None] & is_column[None, :]
        tl.store(output + into, total.to(output.dtype.element_ty), is_ours)


@dataclass(frozen=True, slots=True)
class Groups:
    """Whose rows stand where once they are grouped by expert; nothing of it is read on the host."""

    tokens: Tensor  # [T * num_chosen] int64: whose a grouped row is
    places: Tensor  # [T * num_chosen] int64: where a token's rows are
    starts: Tensor  # [experts + 1] int32: where an expert's rows start
    first_tiles: Tensor  # [experts] int32: which tile is an expert's first
    tile_experts: Tensor  # [tiles] int32: whose a tile is; the number of experts: nobody's


def group_rows(chosen: Tensor, num_experts: int) -> Groups:
    """chosen [T, num_chosen] int64, on its device."""
    asked = chosen.flatten()
    num_rows, device = len(asked), chosen.device
    order = asked.argsort(stable=True)
    places = torch.empty_like(order)
    places.scatter_(0, order, torch.arange(num_rows, device=device))
    counts = torch.zeros(num_experts, dtype=torch.int64, device=device)
    counts.scatter_add_(0, asked, torch.ones_like(asked))
    stops = counts.cumsum(0)
    tiles = ((counts + (BLOCK_M - 1)) // BLOCK_M).cumsum(0)  # behind each expert's last
    most_tiles = triton.cdiv(num_rows, BLOCK_M) + min(num_experts, num_rows)
    numbers = torch.arange(most_tiles, device=device)
    return Groups(
        tokens=order // chosen.shape[1],
        places=places,
        starts=torch.cat((stops[:1] * 0, stops)).int(),
        first_tiles=torch.cat((tiles[:1] * 0, tiles[:-1])).int(),
        tile_experts=torch.searchsorted(tiles, numbers, right=True).int(),
    )


def even_groups(num_groups: int, num_rows: int, device: torch.device) -> Groups:
    """Of as many rows each, which stand in order: so no row has to be looked for."""
    rows = torch.arange(num_groups * num_rows, device=device)
    groups = torch.arange(num_groups + 1, dtype=torch.int32, device=device)
    num_tiles = triton.cdiv(num_rows, BLOCK_M)
    tiles = torch.arange(num_groups * num_tiles, dtype=torch.int32, device=device)
    return Groups(
        tokens=rows,
        places=rows,
        starts=groups * num_rows,
        first_tiles=groups[:-1] * num_tiles,
        tile_experts=tiles // max(num_tiles, 1),
    )


def grouped_matmul(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups) -> Tensor:
    """x [rows, in], grouped; weight [experts, out, in]; bias [experts, out] -> [rows, out]."""
    num_experts, out_features, in_features = weight.shape
    output = x.new_empty(len(x), out_features)
    if len(x):
        grid = (len(groups.tile_experts), triton.cdiv(out_features, BLOCK_N))
        grouped_matmul_kernel[grid](
            output, x.contiguous(), weight, bias, groups.starts, groups.first_tiles,
            groups.tile_experts, num_experts, out_features, in_features,
            HAS_BIAS=bias is not None, BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K,
            num_warps=4, num_stages=3, **launch_options(x.device),
        )  # fmt: skip
    return output
