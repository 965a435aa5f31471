"""The CPUs that a container may use: the quota of this process's control groups.

    v2    cpu.max                                "150000 100000": 1.5 CPUs; "max ..." is none
    v1    cpu.cfs_quota_us, cpu.cfs_period_us    150000, 100000;           -1 is none

Which group a process is in, /proc/self/cgroup says; where the hierarchy is mounted and from which
group on it is seen, /proc/self/mountinfo. A group obeys the limits of all groups above it, too.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def cgroup_quota(proc: Path = PROC, root: Path = Path("/")) -> float | None:
    """CPUs, the least of all groups; None where there is no limit, or no control group. `root` is
    where the mount points are found."""
    try:
        groups = (proc / "cgroup").read_text()
        mounts = (proc / "mountinfo").read_text()
    except OSError:  # not Linux
        return None
    quotas = [
        quota
        for mount, group, is_v2 in _hierarchies(groups, mounts)
        for folder in _folders(root / mount.relative_to("/"), group)
        if (quota := _quota_of(folder, is_v2)) is not None
    ]
    return min(quotas, default=None)


def _hierarchies(groups: str, mounts: str) -> Iterator[tuple[PurePosixPath, str, bool]]:
    """(mount point, the process's group below it, whether it is v2), of those that limit CPUs."""
    own: dict[str, str] = {}  # the controllers of a line, "" of v2 -> the group
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), group))
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        fields, about = before.split(), behind.split()
        is_v2 = about[:1] == ["cgroup2"]
        is_v1 = about[:1] == ["cgroup"] and "cpu" in about[-1].split(",")
        controller = "" if is_v2 else "cpu"
        if (is_v1 or is_v2) and controller in own:
            seen_from = fields[3]
            group = own[controller]
            below = PurePosixPath(group)
            if below.is_relative_to(seen_from):
                group = str(below.relative_to(seen_from))
            yield PurePosixPath(fields[4]), group.lstrip("/"), is_v2


def _folders(mount: Path, group: str) -> Iterator[Path]:
    """The group's and those of all above it. A group that is not seen from here has the mount's."""
    yield mount
    folder = mount
    for part in PurePosixPath(group).parts:
        if part in ("..", "."):
            return
        folder = folder / part
        yield folder


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
