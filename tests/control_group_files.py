"""The files in which a system shows a process its control groups."""

from collections.abc import Mapping
from pathlib import Path


def write_groups(tmp: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """`files`: what stands in them, by their paths below /sys/fs/cgroup. Gives `proc`."""
    proc = tmp / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(mounts)
    for name, text in files.items():
        path = tmp / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc
