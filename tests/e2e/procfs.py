"""What the kernel knows of a process: is it there, what does it hold, what has it used. Linux."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
HANGS = 200.0  # seconds: what a busy machine takes minutes for has not failed yet


def is_running(pid: int) -> bool:
    """Zombies do not count."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def runs_module(pid: int, module: str) -> bool:
    """Whether it was started as `python -m module`. A zombie was not."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return ("-m", module) in pairwise(words)


def children(pid: int) -> list[int]:
    """Whichever of its threads has started them, zombies too, in the order of their ids."""
    found, before = _children(pid), None
    while found != before:  # one that ends meanwhile may hide others from the kernel's list
        found, before = _children(pid), found
    return found


def _children(pid: int) -> list[int]:
    """A tenth of what it takes to ask every process for its parent."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found += map(int, file.read_text().split())
    return sorted(found)


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_seconds(pid: int) -> float:
    """The same to the nanosecond, of the threads that are there now."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def resident_bytes(pid: int) -> int:
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE")


def num_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def num_threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def num_connections(port: int) -> int:
    """TCP connections whose descriptors a server on `port` has not closed."""
    return sum(row.server == port and row.is_open for row in _tcp())


def has_read_all(client: socket.socket) -> bool:
    """Nothing that `client` sent waits in the kernel for the server on this machine to read it."""
    ends = client.getpeername()[1], client.getsockname()[1]
    return not any(row.unread for row in _tcp() if (row.server, row.client) == ends)


@dataclass(frozen=True)
class _Connection:
    """The server's end, where `server` is the port that listens."""

    server: int
    client: int
    is_open: bool
    unread: int


def _tcp() -> Iterator[_Connection]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, ours, theirs, state, queues, *_ = line.split()
        yield _Connection(
            server=int(ours.rpartition(":")[2], 16),
            client=int(theirs.rpartition(":")[2], 16),
            is_open=state in ("01", "08"),  # established; closed by the other side alone
            unread=int(queues.rpartition(":")[2], 16),
        )


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def _stat(pid: int) -> list[str]:
    """From `state`, the third field, on: the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def seconds_until(condition: Callable[[], bool], limit: float = HANGS) -> float:
    """How long it took to come true, to a tenth of it; fails if it did not within `limit`."""
    started = time.monotonic()
    while not condition():
        passed = time.monotonic() - started
        assert passed < limit, f"it did not happen within {limit} s"
        time.sleep(min(max(passed / 10, 0.005), 0.05))  # to look takes of what is looked at
    return time.monotonic() - started
