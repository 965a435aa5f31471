"""The quota of a container, as systems show it: control groups of both versions, seen from inside
and from outside."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.control_group_files import write_groups
from thirdeye.server.engine.execution.cgroup_quota import cgroup_quota

V2 = "31 23 0:28 {seen} /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 30 0:29 {seen} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:30 {seen} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def quota_of(tmp: Path, groups: str, mounts: str, files: Mapping[str, str]) -> float | None:
    return cgroup_quota(write_groups(tmp, groups, mounts, files), tmp)


def v1(quota: str, folder: str = "") -> dict[str, str]:
    where = f"cpu,cpuacct/{folder}"
    return {f"{where}cpu.cfs_quota_us": quota, f"{where}cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("20000 10000", 2.0), ("", None)],
)
def test_v2_inside_a_container(tmp_path: Path, text: str, cpus: float | None) -> None:
    mounts = V2.format(seen="/")
    assert quota_of(tmp_path, "0::/\n", mounts, {"cpu.max": text}) == cpus


def test_v2_obeys_the_groups_above(tmp_path: Path) -> None:
    files = {
        "cpu.max": "800000 100000\n",
        "pod/cpu.max": "250000 100000\n",
        "pod/box/cpu.max": "max 100000\n",
    }
    assert quota_of(tmp_path, "0::/pod/box\n", V2.format(seen="/"), files) == 2.5


def test_v2_of_a_group_that_is_mounted_as_the_root(tmp_path: Path) -> None:
    mounts = V2.format(seen="/pod/box")
    assert quota_of(tmp_path, "0::/pod/box\n", mounts, {"cpu.max": "300000 100000\n"}) == 3.0


def test_v2_of_a_group_outside_of_what_is_seen(tmp_path: Path) -> None:
    """A namespace shows it as `/..`: what is mounted is all that can be known."""
    mounts = V2.format(seen="/")
    assert quota_of(tmp_path, "0::/../other\n", mounts, {"cpu.max": "100000 100000\n"}) == 1.0


@pytest.mark.parametrize(("quota", "cpus"), [("150000\n", 1.5), ("-1\n", None)])
def test_v1(tmp_path: Path, quota: str, cpus: float | None) -> None:
    groups = "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/docker/abc\n"
    mounts = V1.format(seen="/docker/abc")
    assert quota_of(tmp_path, groups, mounts, v1(quota)) == cpus


def test_v1_seen_from_the_host(tmp_path: Path) -> None:
    groups = "4:cpu,cpuacct:/docker/abc\n"
    files = v1("-1\n") | v1("50000\n", "docker/abc/")
    assert quota_of(tmp_path, groups, V1.format(seen="/"), files) == 0.5


def test_where_there_are_none(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "nothing") is None
    assert quota_of(tmp_path, "0::/\n", V2.format(seen="/"), {}) is None


def test_this_machine() -> None:
    quota = cgroup_quota()
    assert quota is None or quota > 0
