"""Work in order: what is submitted first is done first, and is waited for only when it is read.

A GPU works off its stream by itself, so `submit` returns before the work is done; the result comes
to the host through pinned memory, behind the work and in front of what is submitted later. On a CPU
work is done at once. Whatever is submitted must hold all it needs: when it runs, the host may have
gone on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[], Tensor]


class PendingResult(Protocol):
    def wait(self) -> Tensor:
        """The result, on the host. Raises what the work has raised."""


class DeviceStream(Protocol):
    def run(self, work: Callable[[], object]) -> None:
        """Work that leaves its result on the device."""

    def submit(self, work: Work) -> PendingResult: ...


@dataclass(frozen=True, slots=True)
class ReadyResult:
    result: Tensor

    def wait(self) -> Tensor:
        return self.result


class CpuStream:
    """Work is done when it is submitted. The result is a copy: the next work may write over it."""

    def run(self, work: Callable[[], object]) -> None:
        with torch.inference_mode():
            work()

    def submit(self, work: Work) -> PendingResult:
        with torch.inference_mode():
            return ReadyResult(work().clone())


@dataclass(frozen=True, slots=True)
class CopiedResult:
    result: Tensor
    event: torch.cuda.Event

    def wait(self) -> Tensor:
        self.event.synchronize()
        return self.result


class CudaStream:
    """The current stream of a GPU."""

    def run(self, work: Callable[[], object]) -> None:
        with torch.inference_mode():
            work()

    def submit(self, work: Work) -> PendingResult:
        with torch.inference_mode():
            result = work()
            host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            host.copy_(result, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
            event.record()
            return CopiedResult(host, event)
