"""silu(gate) * up, in one pass over the merged projection's output.

Its twin is `GatedMLP` in `model/parts/layers.py`, whose rounding it keeps: the activation is
rounded to the dtype before the product.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def silu_mul_kernel(output, gate_up, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < size
    gate = tl.load(gate_up + row * 2 * size + columns, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * size + size + columns, inside, 0.0).to(tl.float32)
    active = (gate / (1.0 + tl.exp(-gate))).to(output.dtype.element_ty).to(tl.float32)
    tl.store(output + row * size + columns, (active * up).to(output.dtype.element_ty), inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """gate_up [T, 2 * intermediate_size], gate first -> [T, intermediate_size]."""
    gate_up = gate_up.contiguous()
    rows, width = gate_up.shape
    output = torch.empty(rows, width // 2, dtype=gate_up.dtype, device=gate_up.device)
    if rows:
        grid = (rows, triton.cdiv(width // 2, BLOCK))
        silu_mul_kernel[grid](output, gate_up, width // 2, BLOCK=BLOCK, num_warps=4)
    return output
