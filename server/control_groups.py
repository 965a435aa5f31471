"""The control groups that this process is in: how much of the machine a container may use.

Which group a process is in, /proc/self/cgroup says; where the hierarchy is mounted and from which
group on it is seen, /proc/self/mountinfo. A group obeys the limits of all groups above it, too.

    memory, v2    memory.max ("max": none), memory.current
            v1    memory.limit_in_bytes, memory.usage_in_bytes; a number beyond any machine is none
            both  memory.stat: of what is used, the files that nobody looks at go first
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")
UNLIMITED = 1 << 60  # bytes; v1 writes the largest number of whole pages


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """Bytes: the limit of a group, and how much of it is left."""

    limit: int
    free: int


def group_memory(proc: Path = PROC, root: Path = Path("/")) -> GroupMemory | None:
    """The least of all groups; None where there is no limit, or no control group. `root` is where
    the mount points are found."""
    found = [
        memory
        for folder, is_v2 in group_folders("memory", proc, root)
        if (memory := _memory_of(folder, is_v2)) is not None
    ]
    if not found:
        return None
    return GroupMemory(min(one.limit for one in found), min(one.free for one in found))


def group_folders(controller: str, proc: Path, root: Path) -> Iterator[tuple[Path, bool]]:
    """Each group's folder from the top on, of those that limit this ("cpu"), and whether it is
    v2."""
    try:
        groups = (proc / "cgroup").read_text()
        mounts = (proc / "mountinfo").read_text()
    except OSError:  # not Linux
        return
    for mount, group, is_v2 in _hierarchies(controller, groups, mounts):
        for folder in _folders(root / mount.relative_to("/"), group):
            yield folder, is_v2


def _hierarchies(
    controller: str, groups: str, mounts: str
) -> Iterator[tuple[PurePosixPath, str, bool]]:
    """(mount point, the process's group below it, whether it is v2)."""
    own: dict[str, str] = {}  # the controllers of a line, "" of v2 -> the group
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), group))
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        fields, about = before.split(), behind.split()
        is_v2 = about[:1] == ["cgroup2"]
        is_v1 = about[:1] == ["cgroup"] and controller in about[-1].split(",")
        name = "" if is_v2 else controller
        if (is_v1 or is_v2) and name in own:
            seen_from = fields[3]
            group = own[name]
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


def _memory_of(folder: Path, is_v2: bool) -> GroupMemory | None:
    names = ("memory.max", "memory.current", "inactive_file")
    if not is_v2:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        limit, used = (int((folder / name).read_text()) for name in names[:2])
    except (OSError, ValueError):  # no such group, or "max"
        return None
    if limit >= UNLIMITED:
        return None
    return GroupMemory(limit, max(limit - used + _reclaimable(folder, names[2], used), 0))


def _reclaimable(folder: Path, name: str, used: int) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        stats = dict(line.split(" ", 1) for line in lines)
        return min(int(stats.get(name, 0)), used)
    except (OSError, ValueError):
        return 0
