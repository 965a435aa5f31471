"""Where parameters live: one dtype, one device and one format, handed down through constructors.

An argument instead of torch's global default dtype and device, so that two models in one process
(a draft and its target, a test and its oracle) cannot disturb each other.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import nn

from thirdeye.model.loading import large_pages
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Placement:
    dtype: torch.dtype
    device: torch.device
    quantize: str = "none"  # how linear layers are kept, see `model/linear/choose_method.py`
    is_fused: bool = False  # small steps in kernels of our own, see `model/parts/fused.py`
    native: Library | None = None  # kernels compiled for this CPU, where there are any
    ranks: Ranks = ALONE  # who else has a share of the weights
    is_deterministic: bool = False  # a token's bits do not depend on its company, at any cost

    @property
    def has_kernels(self) -> bool:
        """Whether the steps between matrix products are kernels of our own, on either device."""
        return self.is_fused or self.native is not None

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter for inference: uninitialised, to be filled by a checkpoint, never trained."""
        if self.device.type == "cpu":
            tensor = large_pages.empty(*shape, dtype=self.dtype)
        else:
            tensor = torch.empty(shape, dtype=self.dtype, device=self.device)
        return nn.Parameter(tensor, requires_grad=False)


def can_fuse(device: torch.device) -> bool:
    """Whether kernels of our own run there as they are meant to: on a GPU, compiled by triton."""
    return device.type == "cuda" and find_spec("triton") is not None
