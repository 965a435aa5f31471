"""Zeros that take memory only where they are written."""

import math
import mmap
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a CPU the system gives a page at its first use. Torch's own zeros use them all, and so may
    any allocator's, out of what was freed before."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, max(size, 1), PRIVATE)  # begins with a page, and so with a line
    with suppress(OSError, AttributeError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.from_numpy(np.frombuffer(pages, np.uint8)[:size]).view(dtype).view(shape)
