"""A device's memory in bytes: what torch and the driver say of it, and where it goes."""

from dataclasses import dataclass
from typing import Protocol

import torch

from thirdeye.server.engine.cache.kv_budget import GIB


class DeviceMemory(Protocol):
    """A device's memory, in bytes."""

    def release(self) -> None:
        """Give back what is kept for later, and forget the peak."""

    def reset_peak(self) -> None: ...

    @property
    def total(self) -> int: ...

    @property
    def others(self) -> int:
        """In use, but not for tensors: other processes, the driver, libraries."""

    @property
    def allocated(self) -> int:
        """For tensors, now."""

    @property
    def peak(self) -> int:
        """For tensors and the gaps between them, at most, since it was last reset."""


class CudaMemory:
    """A GPU's, as torch's allocator and the driver tell."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def release(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        self.reset_peak()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def total(self) -> int:
        return torch.cuda.mem_get_info(self._device)[1]

    @property
    def others(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free - torch.cuda.memory_reserved(self._device)

    @property
    def allocated(self) -> int:
        return torch.cuda.memory_allocated(self._device)

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Where a device's memory goes, in bytes."""

    total: int
    granted: int  # of the total, to all of what follows
    others: int
    weights: int
    step: int  # the largest, on top of weights and cache
    captured: int  # a step of decoding, once more
    lost: int = 0  # since another rank has less
    state: int = 0  # what the decode loop keeps on the device

    @property
    def kv(self) -> int:
        """What is left."""
        used = self.others + self.weights + self.step + self.captured + self.lost
        return self.granted - used - self.state

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "largest step": self.step,
            "graphs": self.captured,
            **({"decode state": self.state} if self.state else {}),
            "others": self.others,
            **({"more than another GPU has": self.lost} if self.lost else {}),
            "KV": self.kv,
        }
        told = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
        return f"{self.granted / GIB:.2f} of {self.total / GIB:.2f} GiB: {told}"
