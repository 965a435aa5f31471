"""What the kernel knows of a process: is it there, what does it hold, what has it used. Linux."""

import os
import time
from collections.abc import Callable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def is_running(pid: int) -> bool:
    """Zombies do not count."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE")


def num_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def num_threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def _stat(pid: int) -> list[str]:
    """From `state`, the third field, on: the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def seconds_until(condition: Callable[[], bool], limit: float) -> float:
    """How long it took to come true; fails if it did not within `limit`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit, f"it did not happen within {limit} s"
        time.sleep(0.005)
    return time.monotonic() - started
