"""The CPUs that a container may use: the quota of this process's control groups.

v2    cpu.max                                "150000 100000": 1.5 CPUs; "max ..." is none
v1    cpu.cfs_quota_us, cpu.cfs_period_us    150000, 100000;           -1 is none
"""

from pathlib import Path

from thirdeye.server.control_groups import PROC, group_folders


def cgroup_quota(proc: Path = PROC, root: Path = Path("/")) -> float | None:
    """CPUs, the least of all groups; None where there is no limit, or no control group. `root` is
    where the mount points are found."""
    quotas = [
        quota
        for folder, is_v2 in group_folders("cpu", proc, root)
        if (quota := _quota_of(folder, is_v2)) is not None
    ]
    return min(quotas, default=None)


def _quota_of(folder: Path, is_v2: bool) -> float | None:
    try:
        if is_v2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return None
