"""C files to a shared library: compiled once on this machine, found again by its name.

The C files need a compiler, which most machines have; the wheel brings libraries for the others
(`prebuilt/`). Where there is neither, or the processor lacks the instructions, `Unavailable` says
so and torch's own kernels serve. The library's name is a hash of all that makes it, so that an old
one is never taken for the new; it appears under that name in one step, complete and sealed
(`seal.py`). Who wants it while another makes it waits for that one. One that is damaged is made
again.

It knows neither torch nor the environment: the folder and the compilers to try are arguments.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thirdeye.model.native.levels import CPU_INFO, LEVELS, Level, level_named
from thirdeye.model.native.seal import SEAL_KIND, is_sealed, seal_in_place
from thirdeye.model.work_folder import is_ours, sweep, work_folder

SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("cc", "gcc", "clang")
PREFIX = "build-"  # of a compilation's folder
COMPILE_SECONDS = 600.0  # some 20 of processor time; a busy machine may take its own

FLAGS = (
    "-std=gnu11",
    "-O3",
    "-shared",
    "-fPIC",
    "-ffp-contract=off",  # a multiplication and an addition are fused where the source says so
    "-fno-math-errno",
    "-Wall",
)


class Unavailable(Exception):
    """There are no native kernels on this machine; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Build:
    """One library: what it is made of, by what, and where it is or will be."""

    compiler: str
    sources: tuple[Path, ...]  # .c files
    library: Path
    level: Level

    @property
    def is_done(self) -> bool:
        """Whether the library is there, every byte of it."""
        return is_sealed(self.library)

    def run(self, *, in_background: bool = False) -> None:
        """Compile, unless it is there; at a low priority where nobody waits for it. Raises
        `Unavailable` with what the compiler had to say."""
        sweep(self.library.parent, PREFIX)
        if self.is_done:
            return
        try:
            self.library.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.library):
                if not self.is_done:  # another has made it meanwhile
                    self._make(gently() if in_background else [])
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"compiling failed: {error}") from error

    def _make(self, prefix: Sequence[str]) -> None:
        with work_folder(self.library.parent, PREFIX) as folder:
            made = folder / "library.so"
            self._compile(made, prefix)
            if self.library.is_dir() and not self.library.is_symlink():  # whoever put it there
                self.library.rename(folder / "other")
            seal_in_place(made, self.library)

    def _compile(self, made: Path, prefix: Sequence[str]) -> None:
        flags = (*FLAGS, *self.level.flags, "-o", str(made))
        # The compiler's own files go where ours may: a sandbox may have no other such folder.
        env = shutil.which("env")
        place = [env, f"TMPDIR={made.parent}"] if env else []
        command = [*prefix, *place, self.compiler, *flags, *map(str, self.sources)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
        ) as compiling:
            try:
                _, errors = compiling.communicate(timeout=COMPILE_SECONDS)
            except BaseException:
                os.killpg(compiling.pid, signal.SIGKILL)  # the compiler's own children, too
                raise
        if compiling.returncode != 0:
            said = errors.strip().splitlines() or [f"exit status {compiling.returncode}"]
            raise Unavailable(f"{self.compiler} failed: {said[0]}")


def plan_build(
    cache: Path,
    compilers: Sequence[str] = COMPILERS,
    *,
    isa: str = "auto",
    sources: Path = SOURCES,
    cpu_info: Path = CPU_INFO,
) -> Build:
    """The library of the C files in `sources`, to be kept in `cache`, by the first compiler there.

    `isa` is the name of a level, or `auto`: the quickest that the processor has and the compiler
    knows. Raises `Unavailable` if there is none, or no compiler.
    """
    levels = choose_levels(isa, cpu_info)
    compiler = next((found for name in compilers if (found := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable(f"no C compiler is here (tried {', '.join(compilers)})")
    files = files_of(sources)
    c_files = tuple(file for file in files if file.suffix == ".c")
    version = compiler_version(compiler)
    for level in levels:
        build = Build(compiler, c_files, cache / library_name(files, level, version), level)
        if level is levels[-1] or build.is_done or knows(compiler, level):
            return build
    raise AssertionError("the last level is tried in any case")


def files_of(sources: Path) -> list[Path]:
    """The C files and their headers, sorted."""
    return sorted((*sources.glob("*.h"), *sources.glob("*.c")))


def choose_levels(isa: str, cpu_info: Path = CPU_INFO) -> list[Level]:
    """The quickest first. Raises `Unavailable` with what the processor lacks."""
    wanted = LEVELS if isa == "auto" else (level_named(isa),)
    if levels := [level for level in wanted if not level.missing(cpu_info)]:
        return levels
    if isa == "auto":
        raise Unavailable("the processor has neither AVX2, FMA and F16C nor ARM's dot products")
    raise Unavailable(f"the processor has no {wanted[0].missing(cpu_info)[0]}")


def library_name(files: Sequence[Path], level: Level, version: str) -> str:
    """By which it is found again in a cache. `version`: of the compiler."""
    return f"kernels-{level.name}-{fingerprint(files, level, f'{version} {SEAL_KIND}')[:16]}.so"


def fingerprint(files: Sequence[Path], level: Level, version: str = "") -> str:
    """SHA-256 of the sources, the flags and, if they are to stand for a library, the compiler's
    version."""
    parts = [" ".join((*FLAGS, *level.flags)).encode(), version.encode()]
    for file in files:
        parts += [file.name.encode(), file.read_bytes()]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def compiler_version(compiler: str) -> str:
    """What it says when asked. Raises `Unavailable` if it cannot even be asked."""
    try:
        asked = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{compiler} does not run: {error}") from error
    return asked.stdout


def knows(compiler: str, level: Level) -> bool:
    """Whether it is new enough for a level's instructions."""
    command = [compiler, *level.flags, "-E", "-x", "c", "/dev/null"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def one_at_a_time(library: Path) -> Iterator[None]:
    """Among threads and processes, as long as a compiler may take: who holds it longer has stopped,
    and is not waited for. Nor is anybody on a file system without locks."""
    path = library.with_suffix(".lock")
    until = time.monotonic() + COMPILE_SECONDS
    file = _open_lock(path)
    try:
        while file is not None and not is_ours(file) and time.monotonic() < until:
            time.sleep(0.05)
        yield
    finally:
        with suppress(OSError):  # it is a folder
            path.unlink()  # the library was there before: no next one compiles it
        if file is not None:
            os.close(file)


def _open_lock(path: Path) -> int | None:
    """None where there cannot be one: then nobody is waited for. Through a link it would be a file
    of somebody else's."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError:
        return None


def gently() -> list[str]:
    """A prefix for a command that must not be in the way of a server that is starting."""
    nice = shutil.which("nice")
    return [nice, "-n", "10"] if nice else []
