"""The memory of a container, as systems show it: control groups of both versions, seen from inside
and from outside, and a service's below the top."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.control_group_files import write_groups
from thirdeye.server.control_groups import GroupMemory, group_memory
from thirdeye.server.engine.cache import kv_budget

V2 = "31 23 0:28 {seen} /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "33 30 0:30 {seen} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
NO_LIMIT = "9223372036854771712\n"


def memory_of(tmp: Path, groups: str, mounts: str, files: Mapping[str, str]) -> GroupMemory | None:
    return group_memory(write_groups(tmp, groups, mounts, files), tmp)


def v2(limit: str, used: int, folder: str = "", stat: str = "") -> dict[str, str]:
    files = {f"{folder}memory.max": f"{limit}\n", f"{folder}memory.current": f"{used}\n"}
    return files | ({f"{folder}memory.stat": stat} if stat else {})


def v1(limit: str, used: int, folder: str = "", stat: str = "") -> dict[str, str]:
    where = f"memory/{folder}memory"
    files = {f"{where}.limit_in_bytes": limit, f"{where}.usage_in_bytes": f"{used}\n"}
    return files | ({f"{where}.stat": stat} if stat else {})


def test_v2_inside_a_container(tmp_path: Path) -> None:
    found = memory_of(tmp_path, "0::/\n", V2.format(seen="/"), v2("3000", 1000))
    assert found == GroupMemory(3000, 2000)


def test_a_services_own_group_and_those_above(tmp_path: Path) -> None:
    """`MemoryMax` of a unit: nothing stands at the top, which has no such file."""
    files = v2("max", 9000, "system.slice/") | v2("5000", 4000, "system.slice/t.service/")
    groups = "0::/system.slice/t.service\n"
    assert memory_of(tmp_path, groups, V2.format(seen="/"), files) == GroupMemory(5000, 1000)


def test_the_least_of_all_counts(tmp_path: Path) -> None:
    files = v2("4000", 3500, "a/") | v2("9000", 100, "a/b/")
    found = memory_of(tmp_path, "0::/a/b\n", V2.format(seen="/"), files)
    assert found == GroupMemory(4000, 500)


@pytest.mark.parametrize("seen", ["/", "/docker/abc"])
def test_v1(tmp_path: Path, seen: str) -> None:
    """From the host, and from inside."""
    groups = "4:cpu:/x\n3:memory:/docker/abc\n0::/docker/abc\n"
    folder = "docker/abc/" if seen == "/" else ""
    files = v1(NO_LIMIT, 9000) | v1("3000\n", 1000, folder)
    assert memory_of(tmp_path, groups, V1.format(seen=seen), files) == GroupMemory(3000, 2000)


def test_cached_files_are_free(tmp_path: Path) -> None:
    stat = "cache 900\ntotal_inactive_file 700\n"
    found = memory_of(tmp_path, "3:memory:/\n", V1.format(seen="/"), v1("3000\n", 2500, "", stat))
    assert found == GroupMemory(3000, 1200)


def test_more_in_use_than_may_be(tmp_path: Path) -> None:
    found = memory_of(tmp_path, "0::/\n", V2.format(seen="/"), v2("500", 1000, "", "odd\n"))
    assert found == GroupMemory(500, 0)


def test_where_there_are_none(tmp_path: Path) -> None:
    assert group_memory(tmp_path / "nothing") is None
    assert memory_of(tmp_path, "3:memory:/\n", V1.format(seen="/"), v1(NO_LIMIT, 5)) is None


def test_the_cache_of_keys_and_values_keeps_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_budget, "group_memory", lambda: GroupMemory(1 << 20, 1 << 10))
    assert (kv_budget.physical_memory(), kv_budget.free_memory()) == (1 << 20, 1 << 10)
