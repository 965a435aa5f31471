"""The compiled library: found by its name, never half there, and its absence has a reason."""

import ctypes
import fcntl
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from thirdeye.model.native import build
from thirdeye.model.native.build import Build, Unavailable, plan_build
from thirdeye.model.native.levels import LEVELS, Level, level_named, levels_here

pytestmark = pytest.mark.skipif(
    not levels_here(), reason="NATIVE TESTS SKIPPED: the processor has no AVX2"
)

AVX2 = level_named("avx2")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A library that answers 42."""
    directory = tmp_path / "sources"
    directory.mkdir()
    (directory / "answer.h").write_text("#define ANSWER 42\n")
    (directory / "answer.c").write_text('#include "answer.h"\nint answer(void) {return ANSWER;}\n')
    return directory


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_compiles_once_and_finds_it_again(tmp_path: Path, sources: Path) -> None:
    first = plan_build(tmp_path / "cache", sources=sources)
    assert not first.is_done
    first.run()
    assert ctypes.CDLL(str(first.library)).answer() == 42
    when = first.library.stat().st_mtime_ns
    again = plan_build(tmp_path / "cache", sources=sources)
    again.run()
    assert again.library == first.library
    assert again.library.stat().st_mtime_ns == when
    assert list((tmp_path / "cache").iterdir()) == [first.library], "nothing else is left behind"


@pytest.mark.parametrize("left", [0, 1000], ids=["empty", "half written"])
def test_a_damaged_library_is_made_again(tmp_path: Path, sources: Path, left: int) -> None:
    planned = plan_build(tmp_path / "cache", sources=sources)
    planned.run()
    planned.library.write_bytes(planned.library.read_bytes()[:left])
    assert not planned.is_done
    planned.run()
    assert planned.is_done
    assert ctypes.CDLL(str(planned.library)).answer() == 42


def test_the_name_stands_for_all_that_makes_it(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old library must never be taken for the new one: header, source, flag, compiler."""
    names = [plan_build(tmp_path, sources=sources).library.name]
    (sources / "answer.h").write_text("#define ANSWER 43\n")
    names.append(plan_build(tmp_path, sources=sources).library.name)
    (sources / "answer.c").rename(sources / "question.c")
    names.append(plan_build(tmp_path, sources=sources).library.name)
    other = script(tmp_path / "other-cc", "echo another compiler")
    names.append(plan_build(tmp_path, [other], sources=sources).library.name)
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    names.append(plan_build(tmp_path, sources=sources).library.name)
    assert len(set(names)) == len(names)


def noting(folder: Path, what: str) -> tuple[str, Path]:
    """A compiler that writes a line whenever it compiles, and where."""
    notes = folder / "notes"
    text = f'case "$*" in *library.so*) {what} >> {notes};; esac\nexec cc "$@"'
    return script(folder / "noting-cc", text), notes


def test_many_at_once(tmp_path: Path, sources: Path) -> None:
    """Servers start together: one compiles, the others wait for its library."""
    compiler, notes = noting(tmp_path, "echo compiled")
    builds = [plan_build(tmp_path / "cache", [compiler], sources=sources) for _ in range(4)]
    together = Barrier(4)

    def run(each: Build) -> None:
        together.wait()
        each.run()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, builds))
    assert notes.read_text() == "compiled\n"
    assert list((tmp_path / "cache").iterdir()) == [builds[0].library]
    assert ctypes.CDLL(str(builds[0].library)).answer() == 42


def test_who_has_stopped_is_not_waited_for_longer_than_a_compiler(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "COMPILE_SECONDS", 0.0)
    library = plan_build(tmp_path, sources=sources).library
    with library.with_suffix(".lock").open("w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with build.one_at_a_time(library):
            pass


@pytest.mark.parametrize(("in_background", "more"), [(False, 0), (True, 10)])
def test_it_is_gentle_where_nobody_waits(
    tmp_path: Path, sources: Path, *, in_background: bool, more: int
) -> None:
    compiler, notes = noting(tmp_path, "nice")
    planned = plan_build(tmp_path / "cache", [compiler], sources=sources)
    planned.run(in_background=in_background)
    assert int(notes.read_text()) == min(os.nice(0) + more, 19)


def test_the_name_is_not_there_before_the_compiler_is_done(tmp_path: Path, sources: Path) -> None:
    """Whoever looks meanwhile must not load half a file."""
    going, go = tmp_path / "going", tmp_path / "go"
    slow = script(
        tmp_path / "slow-cc",
        f'case "$*" in *library.so*) ;; *) exec cc "$@" ;; esac\necho half > "$(echo "$@" | '
        f"sed 's/.*-o \\([^ ]*\\).*/\\1/')\"\ntouch {going}\n"
        f'while [ ! -e {go} ]; do sleep 0.01; done\nexec cc "$@"',
    )
    planned = plan_build(tmp_path / "cache", [slow], sources=sources)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(planned.run)
        while not going.exists():
            assert not running.done(), running.exception()
        assert not planned.is_done
        go.touch()
        running.result()
    assert ctypes.CDLL(str(planned.library)).answer() == 42


def test_a_compiler_that_takes_too_long_ends_with_its_children(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc is a driver: what it had begun went on alone, and took a core for minutes."""
    child = tmp_path / "child"
    endless = script(
        tmp_path / "endless-cc",
        'case "$*" in *library.so*) ;; *) exec cc "$@" ;; esac\nsleep 600 &\n'
        f"echo $! > {child}.new && mv {child}.new {child}\nwait",
    )

    def late(self: subprocess.Popen[str], timeout: float | None = None) -> None:
        while not child.exists():
            assert self.poll() is None
        raise subprocess.TimeoutExpired(self.args, timeout or 0)

    planned = plan_build(tmp_path / "cache", [endless], sources=sources)
    monkeypatch.setattr(subprocess.Popen, "communicate", late)
    with pytest.raises(Unavailable, match="timed out"):
        planned.run()
    status = Path(f"/proc/{child.read_text().strip()}/stat")
    while status.exists() and status.read_text().split()[2] != "Z":
        pass


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, sources: Path) -> None:
    (sources / "broken.c").write_text("int broken( {\n")
    with pytest.raises(Unavailable, match=r"failed: .*broken\.c"):
        plan_build(tmp_path / "cache", sources=sources).run()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, sources: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="compiling failed"):
        plan_build(tmp_path / "cache", sources=sources).run()


def test_reasons_there_is_none(tmp_path: Path, sources: Path) -> None:
    with pytest.raises(Unavailable, match=r"no C compiler is here \(tried no-such-cc\)"):
        plan_build(tmp_path, ["no-such-cc"], sources=sources)
    with pytest.raises(Unavailable, match="does not run"):
        plan_build(tmp_path, [script(tmp_path / "cc", "exit 1")], sources=sources)
    with pytest.raises(Unavailable, match="the processor has neither AVX2"):
        plan_build(tmp_path, sources=sources, cpu_info=processor(tmp_path, AVX2, "f16c"))
    with pytest.raises(Unavailable, match="the processor has neither AVX2"):
        plan_build(tmp_path, sources=sources, cpu_info=tmp_path / "not-linux")


def processor(folder: Path, level: Level, less: str = "") -> Path:
    """What Linux says of one with a level's instructions, but for one."""
    info = folder / "cpuinfo"
    flags = [name for name in level.instructions if name != less]
    name = "Features" if level.machine == "aarch64" else "flags"
    info.write_text(f"{name}\t\t: {' '.join(flags)}\n{name}\t\t: of another core\n")
    return info


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_best_level_that_a_processor_has(tmp_path: Path, sources: Path, level: Level) -> None:
    """Or the one asked for; the file's name says which, and differs from the others'."""
    info, knows_all = processor(tmp_path, level), [script(tmp_path / "any-cc", "exit 0")]
    chosen = plan_build(tmp_path, knows_all, sources=sources, cpu_info=info)
    assert chosen.level is level
    assert chosen.library.name.startswith(f"kernels-{level.name}-")
    plain = AVX2 if level.machine == "x86_64" else LEVELS[-1]
    assert plan_build(tmp_path, isa=plain.name, sources=sources, cpu_info=info).level is plain
    without = processor(tmp_path, level, list(level.instructions)[-1])
    with pytest.raises(Unavailable, match=f"has no {list(level.instructions)[-1]}"):
        plan_build(tmp_path, isa=level.name, sources=sources, cpu_info=without)


def test_a_compiler_that_does_not_know_the_best_level(tmp_path: Path, sources: Path) -> None:
    """An old one still makes what it can; one that is asked for is not replaced by another."""
    old = script(tmp_path / "old-cc", 'case "$*" in *avx512vnni*) exit 1;; esac\nexec cc "$@"')
    info = processor(tmp_path, LEVELS[0])
    planned = plan_build(tmp_path / "cache", [old], sources=sources, cpu_info=info)
    assert planned.level is AVX2
    planned.run()
    assert ctypes.CDLL(str(planned.library)).answer() == 42
    asked = plan_build(tmp_path, [old], isa=LEVELS[0].name, sources=sources, cpu_info=info)
    with pytest.raises(Unavailable, match="failed"):
        asked.run()


def test_planning_needs_no_torch() -> None:
    """The API process plans and compiles; torch would cost it two seconds and 200 MB."""
    code = "import sys, thirdeye.server.load.native_kernels; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
