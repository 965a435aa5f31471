"""How many threads compute: one for each core this process may use.

Two threads of one core share its multipliers, so the siblings that a processor shows as CPUs of
their own would only wait for each other. A container's CPU set is respected; a quota is not seen.
"""

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def num_cores(cpus: set[int] | None = None, topology: Path = TOPOLOGY) -> int:
    """Cores among `cpus`, those of this process if not given; all CPUs where none are known."""
    if cpus is None:
        cpus = own_cpus()
    return len({siblings(cpu, topology) for cpu in cpus})


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
