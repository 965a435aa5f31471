"""Cumulated sums along rows, in one order for every number of rows.

A library cuts a row by how many there are. Here one program goes along each row, tile by tile. A
tile goes on from the largest sum of the tile before it, which for numbers of 0 and more is its last
but for rounding. The twin is `torch.cumsum`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


@triton.jit
def cumulate_kernel(output, x, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * size
    carried = tl.zeros([1], tl.float32)
    for start in range(0, size, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < size
        sums = tl.cumsum(tl.load(x + row + columns, inside, 0.0), 0) + carried
        tl.store(output + row + columns, sums, inside)
        carried = tl.zeros([1], tl.float32) + tl.max(sums, 0)


def cumulate(x: Tensor) -> Tensor:
    """x [R, n] float32, nothing below 0 -> its cumulated sums [R, n]."""
    x = x.contiguous()
    output = torch.empty_like(x)
    if len(x):
        cumulate_kernel[(len(x),)](output, x, x.shape[1], BLOCK=BLOCK, num_warps=8)
    return output
