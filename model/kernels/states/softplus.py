"""What the kernels of layers that keep a state have in common."""

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    """ln(1 + e^x) of a number, exact where e^x is small."""
    e = tl.exp(tl.minimum(x, 20.0))
    w = 1.0 + e
    log1p = tl.where(w == 1.0, e, tl.log(w) * (e / tl.where(w == 1.0, 1.0, w - 1.0)))
    return tl.where(x > 20.0, x, log1p)
