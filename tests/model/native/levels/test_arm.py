"""ARM's kernels have the bits of this machine's: compiled for it, run in qemu, hash by hash."""

import os
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from tests.draws import also_at_night, is_night
from thirdeye.model.native.build import (
    COMPILERS,
    FLAGS,
    SOURCES,
    Unavailable,
    compiler_version,
    files_of,
    fingerprint,
)
from thirdeye.model.native.levels import Level, level_named, levels_here

KERNELS = ("rms_norm", "layer_norm", "activate", "xielu", "rope_kv", "paged_attention", "sample")
KERNELS += ("float_linear", "int8_linear", "stored_linear", "dequantize", "latent", "look_up")
PACKED_BY = {"int8_linear": "int8_pack.c", "stored_linear": "stored_pack.c"}
TWIN = Path(__file__).with_name("every_kernel.c")
OLD_SECONDS = 7 * 24 * 3600  # other clones on this machine may have other sources
CROSS, QEMU = ("aarch64-linux-gnu-gcc",), ("qemu-aarch64-static", "qemu-aarch64")


def first_of(programs: tuple[str, ...]) -> str:
    found = next((path for name in programs if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"ARM TESTS SKIPPED: {' or '.join(programs)} is not installed")
    return found


@pytest.fixture
def programs(kernels: Path | Unavailable, tmp_path: Path) -> Path:
    """Where they are kept from one run to the next: beside the libraries."""
    folder = (tmp_path if isinstance(kernels, Unavailable) else kernels.parent) / "tests"
    folder.mkdir(exist_ok=True)
    return folder


def hash_of(
    kernel: str, level: Level, compiler: str, run: list[str], programs: Path, *more_flags: str
) -> str:
    """What a program of one kernel and one thread says of all that the kernel gave."""
    program = made(kernel, level, compiler, programs, *more_flags)
    return subprocess.run([*run, program], check=True, capture_output=True, text=True).stdout


version_of = cache(compiler_version)


def made(kernel: str, level: Level, compiler: str, programs: Path, *more_flags: str) -> Path:
    """The program, compiled unless it is there: like the library's, its name stands for all that
    makes it."""
    defines = [f'-DKERNEL="{kernel}.c"', f"-DOF_{kernel.upper()}"]
    if kernel in PACKED_BY:
        defines.append(f'-DKERNEL2="{PACKED_BY[kernel]}"')
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-O3")]
    optimized = "-O2" if is_night() else "-O1"  # half the compiler's time, and no other bits
    how = repr((version_of(compiler), defines, optimized, more_flags))
    family = f"{kernel}-{level.name}-{Path(compiler).name}-{optimized[1:]}-"
    program = programs / (family + fingerprint([TWIN, *files_of(SOURCES)], level, how))
    if program.exists():
        return program
    for old in programs.glob(f"{family}*"):
        if time.time() - old.stat().st_mtime > OLD_SECONDS:
            old.unlink(missing_ok=True)
    new = programs / f"new-{os.getpid()}-{program.name}"
    command = [
        compiler,
        *more_flags,
        *flags,
        *level.flags,
        optimized,
        "-static",
        *defines,
        f"-I{SOURCES}",
        "-o",
        new,
        TWIN,
        SOURCES / "pool.c",
    ]
    subprocess.run([*command, "-lm"], check=True)
    return new.rename(program)  # whole, or not there


@also_at_night
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_on_arm(kernel: str, programs: Path) -> None:
    cross, qemu, here = first_of(CROSS), first_of(QEMU), levels_here()
    if not here:
        pytest.skip("ARM TESTS SKIPPED: this processor has no level to compare with")
    ours = hash_of(kernel, here[0], first_of(COMPILERS), [], programs)
    squares = PACKED_BY if is_night() else ("int8_linear",)  # what `i8mm` has code of its own for
    for name in ("neon", "i8mm") if kernel in squares else ("neon",):
        theirs = hash_of(kernel, level_named(name), cross, [qemu, "-cpu", "max"], programs)
        assert ours == theirs, name


@pytest.mark.prove
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_by_clang(kernel: str, programs: Path) -> None:
    """A Mac's compiler: it takes every file and makes the same bits of it, here and on ARM."""
    clang, here = first_of(("clang",)), levels_here()
    if not here:
        pytest.skip("ARM TESTS SKIPPED: this processor has no level to compare with")
    expected = hash_of(kernel, here[0], first_of(("gcc", "cc")), [], programs)
    for level in here:
        assert hash_of(kernel, level, clang, [], programs) == expected, level.name
    first_of(CROSS)  # its headers and its libc
    emulated, target = [first_of(QEMU), "-cpu", "max"], "--target=aarch64-linux-gnu"
    for name in ("neon", "i8mm"):
        found = hash_of(kernel, level_named(name), clang, emulated, programs, target)
        assert found == expected, name


def test_the_program_shows_a_difference(programs: Path) -> None:
    """Between kernels, not between levels: here, where no emulator is needed."""
    compiler = first_of(COMPILERS)
    hashes = {
        kernel: {hash_of(kernel, level, compiler, [], programs) for level in levels_here()}
        for kernel in ("xielu", "layer_norm")
    }
    assert all(len(each) <= 1 for each in hashes.values())
    assert not hashes["xielu"] & hashes["layer_norm"]
