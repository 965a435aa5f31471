"""x W^T whose sums are cut the same way for every number of rows.

    grid: (tiles of rows x tiles of outputs) x lanes

A library picks its tile, and with it the order of a sum, by the number of rows. Here the order is
one: the inputs are cut into splits of SPLIT, counted from the first, a split is summed in fp32 in
order, BLOCK_K inputs at a time, and splits are added in order. Tiles are two, which have that in
common: a low one, and a wide one for many rows, which reads half as much for each product. One lane
does all splits of a tile; where there are too few tiles to keep a GPU reading, each split has a
lane of its own, leaves its sums in memory, and `add_splits_kernel` adds them as one lane would. So
tiles and lanes are a matter of speed alone. The twin is `F.linear`.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.kernels.products.quantized_matmul import add_splits_kernel

BLOCK_K = 64
SPLIT = 1024  # inputs; a multiple of BLOCK_K
GROUP_ROWS = 1024  # whose tiles go over the weights together, while these are in the cache
ADD_BLOCK = 256


@triton.jit(do_not_specialize=["num_rows"])  # one machine code for every number of rows
def fixed_matmul_kernel(
    output, x, weight, bias, num_rows, out_features, in_features,
    NUM_LANES: tl.constexpr, HAS_BIAS: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """x [rows, in], weight [out, in] -> [rows, out]; with lanes, sums fp32 [lanes, rows, out]."""
    begin(DEPENDENT)
    tile, lane = tl.program_id(0), tl.program_id(1)
    group = GROUP_M * tl.cdiv(out_features, BLOCK_N)  # tiles
    first_row_tile = tile // group * GROUP_M
    height = tl.minimum(tl.cdiv(num_rows, BLOCK_M) - first_row_tile, GROUP_M)
    rows = (first_row_tile + tile % group % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile % group // height * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_column = rows < num_rows, columns < out_features
    x_rows = x + rows.to(tl.int64)[:, None] * in_features
    weight_rows = weight + columns.to(tl.int64)[:, None] * in_features
    inner = tl.arange(0, BLOCK_K)
    first, last = lane, lane + 1
    if NUM_LANES == 1:
        first, last = 0, tl.cdiv(in_features, SPLIT)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for split in range(first, last):
        part = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(split * SPLIT, tl.minimum((split + 1) * SPLIT, in_features), BLOCK_K):
            at = start + inner  # [K]
            is_inside = (at < in_features)[None, :]
            a = tl.load(x_rows + at[None, :], is_row[:, None] & is_inside, 0.0)
            b = tl.load(weight_rows + at[None, :], is_column[:, None] & is_inside, 0.0)
            part = tl.dot(a, tl.trans(b), part, input_precision="ieee")
        total += part
    if HAS_BIAS and NUM_LANES == 1:
        total += tl.load(bias + columns, is_column, 0.0).to(tl.float32)[None, :]
    into = (lane.to(tl.int64) * num_rows + rows)[:, None] * out_features + columns[None, :]
    tl.store(output + into, total.to(output.dtype.element_ty), is_row[:, None] & is_column[None, :])


@dataclass(frozen=True, slots=True)
class FixedTileSize:
    """How many outputs of how many rows a program computes."""

    rows: int
    columns: int
    num_warps: int

    def number(self, num_rows: int, out_features: int) -> int:
        """So many make the whole."""
        return triton.cdiv(num_rows, self.rows) * triton.cdiv(out_features, self.columns)


# What the tensor cores of an H100 want at least; a lone row pays with idle lanes.
LOW = FixedTileSize(64, 128, num_warps=4)
# Of 16-bit numbers. Two warp groups have all registers: what of the sum of splits finds none is
# in memory while a split is summed, not in the loop over its inputs.
WIDE = FixedTileSize(128, 256, num_warps=8)


@dataclass(frozen=True, slots=True)
class FixedMatmul:
    """Multiplies on a GPU of so many multiprocessors, which decide how many lanes there are."""

    num_multiprocessors: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [..., in], weight [out, in], bias [out] -> [..., out]."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()  # [T, in]
        shape = (len(rows), len(weight))
        output = torch.empty(shape, dtype=x.dtype, device=x.device)
        if len(rows):
            self._multiply(output, rows, weight, bias)
        return output.view(*x.shape[:-1], len(weight))

    def _multiply(self, output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        num_rows, out_features = output.shape
        tile = self.tile(num_rows, out_features, x.element_size())
        num_tiles = tile.number(num_rows, out_features)
        lanes = self.num_lanes(num_tiles, x.shape[1])
        sums = output
        if lanes > 1:
            shape = (lanes, num_rows, out_features)
            sums = torch.empty(shape, dtype=torch.float32, device=x.device)
        fixed_matmul_kernel[num_tiles, lanes](
            sums, x, weight, bias, num_rows, out_features, x.shape[1],
            NUM_LANES=lanes, HAS_BIAS=bias is not None, SPLIT=SPLIT,
            BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=BLOCK_K,
            GROUP_M=GROUP_ROWS // tile.rows,
            num_warps=tile.num_warps, num_stages=3, **launch_options(x.device),
        )  # fmt: skip
        if lanes > 1:
            add_splits_kernel[num_rows, triton.cdiv(out_features, ADD_BLOCK)](
                output, sums, bias, num_rows, out_features,
                NUM_SPLITS=lanes, HAS_BIAS=bias is not None, BLOCK=ADD_BLOCK,
                **launch_options(x.device),
            )  # fmt: skip

    def tile(self, num_rows: int, out_features: int, item: int) -> FixedTileSize:
        """The wide one where there are rows for it, unless it alone would have to have lanes.
        `item`: bytes of a number."""
        low, wide = (tile.number(num_rows, out_features) for tile in (LOW, WIDE))
        most = self.num_multiprocessors
        return WIDE if num_rows >= WIDE.rows and item == 2 and (wide >= most or low < most) else LOW

    def num_lanes(self, num_tiles: int, in_features: int) -> int:
        """One a split where tiles alone would leave multiprocessors idle, else one."""
        return triton.cdiv(in_features, SPLIT) if num_tiles < self.num_multiprocessors else 1
