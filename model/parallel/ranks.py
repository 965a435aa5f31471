"""Ranks over torch.distributed: gloo between processes of one machine's CPUs, NCCL between GPUs.

On one host they meet in a file that only this user can reach, and speak over the loopback
interface; those of several hosts meet at a port of rank 0's, and speak over the interfaces of the
addresses that they have for each other. Two
numbers add up to the same in either order, so two ranks may leave a sum to the library; for more,
it chooses the order by the tensor's size. Where a token's bits must not depend on its company,
parts are gathered instead and added in order of rank. Sums are fp32's, rounded once: of two numbers
every dtype's sum is that already.
"""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from thirdeye.model.parallel.interfaces import interface_of
from thirdeye.model.parallel.shares import Ranks, sum_in_order

c10d: Any = dist  # torch's stubs leave its stores and back ends out


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where ranks of one host meet: a file that is not there yet. `timeout` is in seconds, before
    they give up."""

    path: Path
    rank: int
    size: int
    timeout: float

    @property
    def address(self) -> str:
        """Where this rank listens for the others' numbers."""
        return "127.0.0.1"

    def store(self) -> Any:
        return c10d.FileStore(str(self.path), self.size)


@dataclass(frozen=True, slots=True)
class RemoteMeeting:
    """Where ranks of several hosts meet: a port of rank 0's host, where rank 0 alone listens."""

    host: str
    port: int
    address: str  # of this rank's host, as the others reach it
    rank: int
    size: int
    timeout: float
    listener: socket.socket | None = None  # rank 0's, bound to host and port

    def store(self) -> Any:
        fd = None if self.listener is None else self.listener.detach()
        return c10d.TCPStore(
            self.host,
            self.port,
            self.size,
            is_master=fd is not None,
            timeout=timedelta(seconds=self.timeout),
            wait_for_workers=False,
            master_listen_fd=fd,
        )


@dataclass(frozen=True, slots=True)
class TorchRanks:
    """A process group as `Ranks`. Its calls raise RuntimeError if another rank is gone or late."""

    group: dist.ProcessGroup
    rank: int
    size: int
    is_ordered: bool  # whether a sum's bits may not depend on how many rows are added up

    def add_up(self, x: Tensor) -> Tensor:
        if self.is_ordered and self.size > 2:
            return sum_in_order(self._all(x))
        wide = x.contiguous() if self.size == 2 else x.float().contiguous()
        dist.all_reduce(wide, group=self.group)
        return wide.to(x.dtype)

    def gather(self, x: Tensor, dim: int) -> Tensor:
        return torch.cat(self._all(x), dim=dim)

    def _all(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x, group=self.group)
        return parts


def join(
    meeting: Meeting | RemoteMeeting, device: torch.device, *, is_deterministic: bool
) -> Ranks:
    """Wait for the others; the first sum is made, so the file is no longer needed.

    Raises RuntimeError if they do not come in time.
    """
    store = meeting.store()
    on_gpu = device.type == "cuda"
    group = _nccl(meeting, store, device) if on_gpu else _gloo(meeting, store)
    is_ordered = is_deterministic or not on_gpu
    ranks = TorchRanks(group, meeting.rank, meeting.size, is_ordered)
    ranks.add_up(torch.zeros(1, device=device))
    return ranks


def _gloo(meeting: Meeting | RemoteMeeting, store: Any) -> dist.ProcessGroup:
    """A group of its own: nothing is registered in the process, so a test can have two."""
    gloo = c10d.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timedelta(seconds=meeting.timeout)
    options._devices = [gloo.create_device(hostname=meeting.address)]
    group: dist.ProcessGroup = gloo(store, meeting.rank, meeting.size, options)
    return group


def _nccl(meeting: Meeting | RemoteMeeting, store: Any, device: torch.device) -> dist.ProcessGroup:
    """The one that `torch.distributed` keeps for the process: its watchdog ends what hangs."""
    if isinstance(meeting, RemoteMeeting):
        os.environ["NCCL_SOCKET_IFNAME"] = f"={interface_of(meeting.address)}"  # noqa: TID251 (NCCL takes it from nowhere else)
    torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl",
        store=store,
        rank=meeting.rank,
        world_size=meeting.size,
        timeout=timedelta(seconds=meeting.timeout),
        device_id=device,
    )
    group = dist.group.WORLD
    assert group is not None
    return group
