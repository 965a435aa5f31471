"""Work in order: what is submitted first is done first, and is waited for only when it is read.

A GPU works off its stream by itself, so `submit` returns before the work is done; the result comes
to the host through pinned memory, behind the work and in front of what is submitted later. On a CPU
work is done at once. Whatever is submitted must hold all it needs: when it runs, the host may have
gone on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from thirdeye.server.engine.interface.types import EngineDead

Work = Callable[[], Tensor]
POLL_SECONDS = 20e-6  # between two looks at a step that others wait for


class DeviceEvent(Protocol):
    """Something on a device, as `torch.cuda.Event`."""

    def query(self) -> bool:
        """Whether it has come."""


def wait_for(
    event: DeviceEvent,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """`EngineDead` if it does not come within `timeout` seconds. In a graph ranks wait for each
    other on their devices, where nobody counts."""
    end = clock() + timeout
    while not event.query():
        if clock() > end:
            raise EngineDead(
                f"The device has not finished a step for {timeout:g} seconds: another rank may be "
                "lost in it."
            )
        wait(POLL_SECONDS)


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
    timeout: float | None

    def wait(self) -> Tensor:
        if self.timeout is None:
            self.event.synchronize()
        else:
            wait_for(self.event, self.timeout)
        return self.result


class CudaStream:
    """The current stream of a GPU. `timeout`: seconds after which a step that is not done is the
    end of the engine; None: there are no others that could be waited for."""

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout

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
            return CopiedResult(host, event, self._timeout)
