"""Cumulated sums that a draw reads off, in an order that the other rows of a batch do not change.

On a CPU torch goes along a row in the same way however many there are. On a GPU it cuts rows by
their number, so a kernel of ours does it where there is triton.
"""

from torch import Tensor

from thirdeye.model.placement import can_fuse


def cumulate(x: Tensor) -> Tensor:
    """x [R, n] float32, nothing below 0 -> its cumulated sums along the rows [R, n]."""
    if not can_fuse(x.device):
        return x.cumsum(-1)
    from thirdeye.model.kernels.cumulate import cumulate as on_gpu  # noqa: PLC0415 (triton may be missing)

    sums: Tensor = on_gpu(x)
    return sums
