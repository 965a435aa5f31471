"""Whatever lies in the cache of compiled libraries in place of ours, the next start makes ours."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model.native.test_build import script, sources
from thirdeye.model.native import build, seal
from thirdeye.model.native.build import Build, Unavailable, plan_build
from thirdeye.model.native.levels import levels_here
from thirdeye.model.native.library import Library
from thirdeye.model.native.seal import load_code, seal_in_place
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


def test_another_library_under_its_name_is_made_again(planned: Build, sources: Path) -> None:
    """Whole, sealed and ours, and for other sources or another processor."""
    planned.run()
    (sources / "answer.c").write_text("int answer(void) {return 43;}\nvoid run(void) {}\n")
    other = plan_build(planned.library.parent, sources=sources)
    other.run()
    planned.library.write_bytes(other.library.read_bytes())
    assert not planned.is_done
    with pytest.raises(Unavailable, match="damaged"):
        Library(planned.library)


@pytest.mark.parametrize("change", ["cut", "zeros", "another", "gone"])
def test_what_becomes_of_a_file_that_is_mapped_ends_nobody(planned: Build, change: str) -> None:
    """Its code is called for the first time after that, by a process of its own: a page that a file
    has no more is a SIGBUS, and other bytes are other code."""
    planned.run()
    code = f"""
import pathlib
from thirdeye.model.native.seal import load_code
path = pathlib.Path({str(planned.library)!r})
library = load_code(path.read_bytes(), path)
size = path.stat().st_size
if {change!r} == "gone":
    path.unlink()
else:
    with path.open("r+b") as file:
        file.write({{"cut": b"", "zeros": bytes(size), "another": b"x" * size}}[{change!r}])
        file.truncate(0 if {change!r} == "cut" else size)
print(library.answer())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_a_file_that_changes_after_it_was_verified_is_not_what_is_loaded(planned: Build) -> None:
    planned.run()
    content = planned.library.read_bytes()
    planned.library.write_bytes(b"x" * len(content))
    assert load_code(content, planned.library).answer() == 42


def test_no_copy_in_memory_where_there_is_none(
    planned: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox forbids it, or another system has it not: the file itself is loaded."""

    def forbidden(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(seal, "_LOADED", {})
    monkeypatch.setattr(os, "memfd_create", forbidden)
    planned.run()
    assert load_code(planned.library.read_bytes(), planned.library).answer() == 42


def test_the_compiler_needs_no_other_folder(planned: Build, tmp_path: Path) -> None:
    """Its own files go beside the library: a sandbox may let it write nowhere else."""
    said = tmp_path / "said"
    slow = script(tmp_path / "cc", f'echo "$TMPDIR" > {said}; exit 1')
    with pytest.raises(Unavailable, match="failed"):
        replace(planned, compiler=slow).run()
    assert Path(said.read_text().strip()).parent == planned.library.parent
