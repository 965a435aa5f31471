"""What comes of a gate and its partner, in one pass over the merged projection's output.

Its twin is `gated_function` in `model/parts/activations.py`, whose rounding it keeps: an activation
is rounded to the dtype before the product; gpt-oss's clamped one is rounded once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.config import Activation
from thirdeye.model.kernels.dependent_launch import begin, launch_options

BLOCK = 1024
KINDS = frozenset(Activation) - {Activation.XIELU}  # which has parameters of its own


@triton.jit
def activate(x, KIND: tl.constexpr):
    """x [n] float32."""
    if KIND == "silu":
        return x / (1.0 + tl.exp(-x))
    elif KIND == "gelu":
        SQRT_HALF: tl.constexpr = 0.7071067811865476
        return 0.5 * x * (1.0 + tl.erf(x * SQRT_HALF))
    elif KIND == "gelu_tanh":  # 1 + tanh(y) = 2 sigmoid(2 y)
        SQRT_8_OVER_PI: tl.constexpr = 1.5957691216057308  # twice that of tanh's argument
        return x / (1.0 + tl.exp(-(x + 0.044715 * x * x * x) * SQRT_8_OVER_PI))
    else:
        tl.static_assert(KIND == "relu" or KIND == "relu2")
        above = tl.where(x != x, x, tl.maximum(x, 0.0))  # NaN stays
        return above * above if KIND == "relu2" else above


@triton.jit
def gated(gate, up, KIND: tl.constexpr, dtype: tl.constexpr):
    """gate and up float32 -> what comes of them, not yet rounded to `dtype`."""
    if KIND == "clamped_swiglu":
        ALPHA: tl.constexpr = 1.702
        LIMIT: tl.constexpr = 7.0
        LEAST: tl.constexpr = -7.0
        gate = tl.where(gate > LIMIT, LIMIT, gate)
        up = tl.where(up > LIMIT, LIMIT, up)
        up = tl.where(up < LEAST, LEAST, up)
        return gate / (1.0 + tl.exp(-gate * ALPHA)) * (up + 1.0)
    else:
        return activate(gate, KIND).to(dtype).to(tl.float32) * up


@triton.jit
def gated_mul_kernel(
    output, gate_up, size, KIND: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr
):
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < size
    dtype = output.dtype.element_ty
    gate = tl.load(gate_up + row * 2 * size + columns, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * size + size + columns, inside, 0.0).to(tl.float32)
    product = gated(gate, up, KIND, dtype)
    tl.store(output + row * size + columns, product.to(dtype), inside)


def gated_mul(gate_up: Tensor, activation: Activation) -> Tensor:
    """gate_up [T, 2 * intermediate_size], gate first -> [T, intermediate_size]. The activation is
    one of `KINDS`."""
    gate_up = gate_up.contiguous()
    rows, width = gate_up.shape
    output = torch.empty(rows, width // 2, dtype=gate_up.dtype, device=gate_up.device)
    if rows:
        grid = (rows, triton.cdiv(width // 2, BLOCK))
        gated_mul_kernel[grid](
            output, gate_up, width // 2, KIND=activation.value, BLOCK=BLOCK, num_warps=4,
            **launch_options(output.device),
        )  # fmt: skip
    return output
