"""Operations in C run on torch's own threads: all items done once, nobody before the barrier."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.model.native.small import small_library
from thirdeye.model.native.build import Unavailable
from thirdeye.model.native.levels import levels_here
from thirdeye.model.native.library import Library, address, openmp_runtime
from thirdeye.model.native.seal import seal_in_place
from thirdeye.server.engine.execution.cpu_threads import own_cpus

ROOT = Path(__file__).parents[3]

# Each thread takes items and counts them; behind the barrier all sum what all have counted.
COUNT = """
#include "pool.h"
#include <unistd.h>
struct count_args {int num_items, microseconds_late, *taken, *sums;};
void count(const struct count_args *args, struct team *team) {
    for (int round = 0; round < 3; round++) {
        for (int item; (item = next_item(team)) < args->num_items;)
            args->taken[item] += 1;
        if (team->thread == 0) usleep(args->microseconds_late);
        barrier(team);
        int sum = 0;
        for (int item = 0; item < args->num_items; item++)
            sum += args->taken[item];
        args->sums[team->thread * 3 + round] = sum;
        barrier(team);
    }
}
"""


class CountArgs(ctypes.Structure):
    _fields_ = (
        ("num_items", ctypes.c_int),
        ("microseconds_late", ctypes.c_int),
        ("taken", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
    )


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return small_library(tmp_path_factory.mktemp("counting"), COUNT, "pool.h", "pool.c")


@pytest.mark.parametrize("threads", [1, 2, 5, 8, 9, 33, 150])
@pytest.mark.parametrize("microseconds_late", [0, 2000])
def test_every_item_is_done_once_in_every_round(
    counting: Library, threads: int, microseconds_late: int
) -> None:
    """Behind a barrier the work of all before it is seen, by all; also by those that fell asleep
    waiting for one that came late. With many threads, in groups that are full and not."""
    torch.set_num_threads(threads)
    operation = counting.operation("count")
    for num_items in (0, 1, 7, 1000):
        taken = torch.zeros(max(num_items, 1), dtype=torch.int32)
        sums = torch.full((threads, 3), -1, dtype=torch.int32)
        args = CountArgs(num_items, microseconds_late, taken.data_ptr(), sums.data_ptr())
        counting.run(operation, args)
        assert taken[:num_items].tolist() == [3] * num_items
        done = sums[sums[:, 0] >= 0]  # OpenMP may give fewer threads than asked for
        assert len(done) >= 1
        assert done.tolist() == [[num_items, 2 * num_items, 3 * num_items]] * len(done)


# Each thread says where it runs, behind a barrier: none is at home before all are.
WHERE = """
#define _GNU_SOURCE
#include <sched.h>
#include "pool.h"
struct where_args {int *cpus, *allowed;};
void where(const struct where_args *args, struct team *team) {
    cpu_set_t set;
    barrier(team);
    sched_getaffinity(0, sizeof set, &set);
    args->allowed[team->thread] = CPU_COUNT(&set);
    args->cpus[team->thread] = sched_getcpu();
}
"""


class WhereArgs(ctypes.Structure):
    _fields_ = (("cpus", ctypes.c_void_p), ("allowed", ctypes.c_void_p))


@pytest.mark.skipif(
    not levels_here() or len(own_cpus()) < 2, reason="NATIVE TESTS SKIPPED: one CPU alone"
)
def test_threads_are_pinned(tmp_path: Path) -> None:
    """In a process of its own: what is pinned stays so."""
    small_library(tmp_path, WHERE, "pool.h", "pool.c", "pin.c")  # compiled; skips if it cannot be
    code = f"""
import gc, sys; sys.path.insert(0, {str(ROOT)!r}); gc.disable()
from thirdeye.model.loading.import_torch import import_torch; import_torch()
import pathlib, torch
from tests.model.native.test_library import WhereArgs, Library
torch.set_num_threads(2)
library = Library(next(pathlib.Path({str(tmp_path / "cache")!r}).glob("*.so")))
cpus = {sorted(own_cpus())[:2]}
def look():
    found = torch.zeros(2, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    for _ in range(20):
        library.run(library.operation("where"), WhereArgs(*(t.data_ptr() for t in found)))
    return [t.tolist() for t in found]
before = look()[1]
library.pin(cpus)
at, allowed = look()
assert allowed == [before[0], 1], (before, allowed)
assert at[1] == cpus[1], (at, cpus)
try:
    library.pin([cpus[0], 1000])
except OSError as error:
    assert "for CPU 1000" in str(error)
else:
    raise AssertionError("no such CPU")
print(torch.randn(2000, 2000).sum().isfinite().item())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_the_library_of_the_project_loads(native: Library) -> None:
    assert native.operation("run") > 0


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("sealed, and yet no code")
    seal_in_place(tmp_path / "made", tmp_path / "kernels.so")
    with pytest.raises(Unavailable, match="cannot be loaded"):
        Library(tmp_path / "kernels.so")
    with pytest.raises(Unavailable, match="being compiled"):
        Library(tmp_path / "not-there.so")
    nowhere = Path("/dev/null/cache/kernels.so")  # root may write everywhere else
    with pytest.raises(Unavailable, match="not in /dev/null/cache, which cannot be written"):
        Library(nowhere)


def test_one_openmp_is_shared_or_none(tmp_path: Path) -> None:
    """Two pools on the same cores would be slower than either."""
    assert openmp_runtime().name.startswith("lib")
    maps = tmp_path / "maps"
    line = "7f00-7f01 r-xp 00000000 00:00 0    /opt/torch/{}\n"
    maps.write_text(line.format("libgomp-a34b.so.1") * 2 + line.format("libc.so.6"))
    assert openmp_runtime(maps) == Path("/opt/torch/libgomp-a34b.so.1")
    maps.write_text(line.format("libgomp.so.1") + line.format("libiomp5.so"))
    with pytest.raises(Unavailable, match="2 are loaded"):
        openmp_runtime(maps)
    with pytest.raises(Unavailable, match="no list of loaded libraries"):
        openmp_runtime(tmp_path / "not-linux")


def test_addresses_are_of_what_c_expects() -> None:
    """A wrong shape or stride would read what is not there."""
    x = torch.zeros(3, 4)
    assert address(x, torch.float32, -1, 4) == x.data_ptr()
    for wrong, dtype, shape in (
        (x, torch.int8, (3, 4)),
        (x, torch.float32, (3, 5)),
        (x, torch.float32, (12,)),
        (x.T, torch.float32, (4, 3)),
        (x.to("meta"), torch.float32, (3, 4)),
    ):
        with pytest.raises(AssertionError):
            address(wrong, dtype, *shape)
