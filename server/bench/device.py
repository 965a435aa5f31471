"""What a device can do, measured, and what it was busy with: the yardsticks of `bench_engine.py`.

Bandwidth by a large copy, arithmetic by a large matrix product, both the best of several; a GPU's
busy time by torch's profiler, as the union of its kernels' times. On a CPU there is no such idle
time to speak of, so none is given.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.native.products.int8_linear import Int8LinearKernel
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.transformer import Transformer

COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}


def now(device: torch.device) -> float:
    """Seconds, after all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def least_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of ten runs, after one to warm up."""
    work()
    times = []
    for _ in range(10):
        start = now(device)
        work()
        times.append(now(device) - start)
    return min(times)


def measure_bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy, read and written."""
    source = torch.ones(COPY_BYTES.get(device.type, 1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / least_seconds(lambda: target.copy_(source), device)


def measure_matmul(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large product of random matrices, 2 for each product and sum."""
    size = MATMUL_SIZE.get(device.type, 1024)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / least_seconds(lambda: a @ b, device)


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """The union of (start, end) in microseconds, in seconds: what runs at once counts once."""
    total, reached = 0.0, -float("inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def profiled_busy_seconds(work: Callable[[], object], device: torch.device) -> float | None:
    """How long a GPU was busy with `work`; None on a CPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
        torch.cuda.synchronize(device)
    events = [e for e in profile.events() or () if str(e.device_type).endswith("CUDA")]
    return busy_seconds((e.time_range.start, e.time_range.end) for e in events)


def stored_bytes(model: Transformer) -> int:
    """Of all that is multiplied, in the form it is kept in: a step reads it once."""
    layers = [m for m in model.modules() if isinstance(m, Linear | TiedLinear)]
    return sum(_bytes_of(layer.kept) + _bytes_of(layer.bias) for layer in layers)


def _bytes_of(kept: Any) -> int:
    if isinstance(kept, Tensor):
        return kept.nbytes
    if isinstance(kept, Int8LinearKernel):
        return _bytes_of(kept.weight)
    if isinstance(kept, StoredLinearKernel):
        return sum(part.panels.nbytes for part in kept.parts)
    if is_dataclass(kept):
        return sum(_bytes_of(getattr(kept, field.name)) for field in fields(kept))
    return 0
