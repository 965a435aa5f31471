"""How many threads compute: one for each core this process may use, and no more than its quota.

Two threads of one core share its multipliers, so the siblings that a processor shows as CPUs of
their own would only wait for each other. A container's CPU set is respected, and so is its quota
(`cgroup_quota.py`): threads beyond it would stop each other in the middle of a step.
"""

import math
import os
from pathlib import Path

from thirdeye.server.engine.execution.cgroup_quota import cgroup_quota

TOPOLOGY = Path("/sys/devices/system/cpu")


def num_threads(cores: int | None = None, quota: float | None = None) -> int:
    """Threads for `cores` under a quota of CPUs, this process's where they are not given. Half a
    CPU is one thread, two and a half are two: a third would wait for the next period."""
    cores = num_cores() if cores is None else cores
    quota = cgroup_quota() if quota is None else quota
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def num_cores(cpus: set[int] | None = None, topology: Path = TOPOLOGY) -> int:
    """Cores among `cpus`, those of this process if not given; all CPUs where none are known."""
    if cpus is None:
        cpus = own_cpus()
    return len({siblings(cpu, topology) for cpu in cpus})


def one_cpu_a_core(cpus: set[int] | None = None, topology: Path = TOPOLOGY) -> list[int]:
    """The first CPU of each core among `cpus`, this process's if not given; in order."""
    first: dict[str, int] = {}
    for cpu in sorted(own_cpus() if cpus is None else cpus):
        first.setdefault(siblings(cpu, topology), cpu)
    return list(first.values())


def own_cpus() -> set[int]:
    """Those this process may use, as far as the system tells."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return set(range(os.cpu_count() or 1))
    return os.sched_getaffinity(0)


def siblings(cpu: int, topology: Path) -> str:
    """The CPUs of one core, as the kernel writes them ('0,2'); the CPU alone where it does not."""
    try:
        return (topology / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
