"""Zeros that take memory only where they are written."""

import math

import numpy as np
import torch
from torch import Tensor

LINE = 64  # bytes that come from memory at once: a vector shall not begin in the midst of one


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a CPU the system gives a page at its first use, and torch's own zeros use them all."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    pages = np.zeros(size + LINE, np.uint8)
    start = -pages.ctypes.data % LINE
    return torch.from_numpy(pages[start : start + size]).view(dtype).view(shape)
