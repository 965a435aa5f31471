"""Memory for a model's weights, which the system gives in large pages where it does so when asked.

A page is cleared when it is first written. In pages of 4 KiB that costs several times as much as
the writing itself, and later each read asks where the page is. numpy asks for pages of 2 MiB for
arrays from 4 MiB on, torch does not.
"""

import math

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a line of a cache, where torch's memory begins too
LARGE = 1 << 22  # bytes from which on numpy asks


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """As `torch.empty`, on this machine's CPU."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return torch.empty(shape, dtype=dtype)
    memory = torch.from_numpy(np.empty(size + ALIGNMENT, np.uint8))
    start = -memory.data_ptr() % ALIGNMENT
    return memory[start : start + size].view(dtype).view(shape)
