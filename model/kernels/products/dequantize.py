"""Weights in 8 or 4 bits as floats in memory: for products so large that this is a small part.

A prompt of thousands of tokens is bound by arithmetic, where the library's own product of dense
matrices has no rival. Writing its weights out costs some 4 bytes a weight once, whatever the number
of rows. The twin is `RoundedWeight.dequantize`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.linear.rounded import RoundedWeight

BLOCK = 1024  # numbers of one program, all of one row


@triton.jit
def dequantize_kernel(
    output, numbers, scales, in_features, GROUP: tl.constexpr, BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (outputs, tiles of a row's stored numbers)."""
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # of the row's numbers, or of its pairs
    dtype = output.dtype.element_ty
    if GROUP > 0:
        HALF: tl.constexpr = GROUP // 2
        inside = at < in_features // 2
        pair = tl.load(numbers + row * (in_features // 2) + at, inside, 0)
        group = at // HALF
        scale = tl.load(scales + row * (in_features // GROUP) + group, inside, 0.0).to(tl.float32)
        low = ((pair & 15).to(tl.float32) - 8.0) * scale
        high = ((pair >> 4).to(tl.float32) - 8.0) * scale
        into = output + row * in_features + group * GROUP + at % HALF
        tl.store(into, low.to(dtype), inside)
        tl.store(into + HALF, high.to(dtype), inside)
    else:
        inside = at < in_features
        number = tl.load(numbers + row * in_features + at, inside, 0.0).to(tl.float32)
        tl.store(
            output + row * in_features + at, (number * tl.load(scales + row)).to(dtype), inside
        )


def dequantize(weight: RoundedWeight, dtype: torch.dtype) -> Tensor:
    """[out, in] in `dtype`."""
    shape = (weight.out_features, weight.in_features)
    output = torch.empty(shape, dtype=dtype, device=weight.numbers.device)
    grid = (weight.out_features, triton.cdiv(weight.numbers.shape[1], BLOCK))
    dequantize_kernel[grid](
        output, weight.numbers, weight.scales, weight.in_features, GROUP=weight.group, BLOCK=BLOCK,
        **launch_options(output.device),
    )  # fmt: skip
    return output
