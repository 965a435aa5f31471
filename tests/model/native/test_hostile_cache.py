"""Whatever lies in the cache of compiled libraries in place of ours, the next start makes ours."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model.native.test_build import script, sources
from thirdeye.model.native import build
from thirdeye.model.native.build import Build, Unavailable, plan_build
from thirdeye.model.native.levels import levels_here
from thirdeye.model.native.library import Library
from thirdeye.model.native.seal import seal_in_place
from thirdeye.model.work_folder import SWEEP_SECONDS, held

__all__ = ["sources"]  # a fixture

pytestmark = pytest.mark.skipif(
    not levels_here(), reason="NATIVE TESTS SKIPPED: the processor has no AVX2"
)


@pytest.fixture
def planned(tmp_path: Path, sources: Path) -> Build:
    found = plan_build(tmp_path / "cache", sources=sources)
    found.library.parent.mkdir()
    return found


def as_folder(path: Path) -> None:
    path.mkdir()


def as_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def as_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def as_empty(path: Path) -> None:
    path.write_bytes(b"")


def as_header(path: Path) -> None:
    path.write_bytes(Path(sys.executable).resolve().read_bytes()[:64])


KINDS = [as_folder, as_full_folder, as_pipe, as_loop, as_dangling, as_endless, as_large, as_empty,
         as_header]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", KINDS, ids=lambda put: put.__name__)
@pytest.mark.parametrize("which", ["library", "lock"])
def test_whatever_lies_there_the_library_is_made(
    planned: Build, put: Callable[[Path], None], which: str
) -> None:
    path = planned.library if which == "library" else planned.library.with_suffix(".lock")
    put(path)
    assert not planned.is_done
    planned.run()
    assert planned.is_done
    assert ctypes.CDLL(str(planned.library)).answer() == 42


def test_no_file_of_others_is_written_through_a_link(planned: Build, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    planned.library.with_suffix(".lock").symlink_to(precious)
    planned.library.symlink_to(precious)
    planned.run()
    assert planned.is_done
    assert precious.read_text() == "precious"


def test_a_sealed_library_of_another_processor_is_made_again(planned: Build) -> None:
    """Whole, and none that this process can load: not for ever."""
    planned.run()
    elf = bytearray(planned.library.read_bytes()[:-48])
    elf[18] = 0xB7 if elf[18] != 0xB7 else 0x3E  # e_machine: AArch64, or x86-64
    other = planned.library.with_name("other")
    other.write_bytes(elf)
    seal_in_place(other, planned.library)
    assert planned.is_done
    with pytest.raises(Unavailable, match=r"cannot be loaded.*the next start makes it again"):
        Library(planned.library)
    planned.run()
    assert ctypes.CDLL(str(planned.library)).answer() == 42


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_compile_leaves_goes_with_the_next(
    planned: Build, sources: Path, tmp_path: Path, ends: signal.Signals
) -> None:
    """Its folder, and the compiler's files in it, whoever compiles next."""
    (tmp_path / "bin").mkdir()
    asked = 'case "$*" in *--version*) echo 1;; *" -E "*) ;; *) sleep 60;; esac'
    slow = script(tmp_path / "bin" / "cc", asked)
    code = (
        "import sys; from pathlib import Path; from thirdeye.model.native.build import plan_build;"
        f"plan_build(Path({str(planned.library.parent)!r}), [{slow!r}],"
        f" sources=Path({str(sources)!r})).run()"
    )
    cache = planned.library.parent
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        while not list(cache.glob("build-*")):
            assert process.poll() is None
        os.killpg(process.pid, ends)
    (left,) = cache.glob("build-*")
    (left / "half").write_bytes(b"x" * 1000)
    planned.run()
    assert left.exists(), "it may be somebody's who compiles just now"
    old = time.time() - SWEEP_SECONDS - 1
    os.utime(left, (old, old))
    planned.run()
    assert not left.exists()
    assert list(cache.glob("build-*")) == []


def test_the_sweep_takes_nothing_of_one_that_is_at_work(planned: Build) -> None:
    """However long it takes; and nothing through a link."""
    theirs, other = planned.library.parent / "build-theirs", planned.library.parent / "other"
    old = time.time() - SWEEP_SECONDS - 1
    for folder in (theirs, other):
        folder.mkdir()
        os.utime(folder, (old, old))
    (planned.library.parent / "build-link").symlink_to(other)
    with held(theirs):
        planned.run()
        assert theirs.exists()
    planned.run()
    assert not theirs.exists()
    assert other.exists()


def test_a_full_disk(planned: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is sealed, or given its name: said in a line, nothing is left, and the next start
    makes it."""
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(build.os if name == "fsync" else Path, name, full)
            with pytest.raises(Unavailable, match="No space left on device"):
                planned.run()
        assert list(planned.library.parent.iterdir()) == []
    planned.run()
    assert planned.is_done
