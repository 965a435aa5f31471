"""Threads of the engine: one a core, not one a hyperthread, within the CPUs it was given."""

import os
from pathlib import Path

import pytest

from thirdeye.server.engine.execution import cpu_threads
from thirdeye.server.engine.execution.cpu_threads import num_cores, num_threads, one_cpu_a_core


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """Two cores of two hyperthreads each: CPUs 0 and 2, 1 and 3."""
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    return tmp_path


def test_siblings_count_once(topology: Path) -> None:
    assert num_cores({0, 1, 2, 3}, topology) == 2
    assert num_cores({0, 2}, topology) == 1
    assert num_cores({0, 1}, topology) == 2


def test_one_cpu_of_each_core(topology: Path, tmp_path: Path) -> None:
    assert one_cpu_a_core({3, 2, 1, 0}, topology) == [0, 1]
    assert one_cpu_a_core({2, 3}, topology) == [2, 3]
    assert one_cpu_a_core({5, 4}, tmp_path / "no") == [4, 5]
    assert len(one_cpu_a_core()) == num_cores()


def test_without_topology_each_cpu_counts(tmp_path: Path) -> None:
    assert num_cores({0, 1, 2}, tmp_path) == 3


def test_this_machine() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (8.0, 4), (2.5, 2), (1.0, 1), (0.25, 1)])
def test_a_quota_bounds_the_threads(quota: float | None, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(cpu_threads, "cgroup_quota", lambda: quota)
    assert num_threads(cores=4) == threads
