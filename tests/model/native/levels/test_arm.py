"""ARM's kernels have the bits of this machine's: compiled for it, run in qemu, hash by hash."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.draws import also_at_night, is_night
from thirdeye.model.native.build import COMPILERS, FLAGS, SOURCES
from thirdeye.model.native.levels import Level, level_named, levels_here

KERNELS = ("rms_norm", "layer_norm", "activate", "xielu", "rope_kv", "paged_attention", "sample")
KERNELS += ("float_linear", "int8_linear", "stored_linear", "dequantize", "latent")
PACKED_BY = {"int8_linear": "int8_pack.c", "stored_linear": "stored_pack.c"}
TWIN = Path(__file__).with_name("every_kernel.c")
CROSS, QEMU = ("aarch64-linux-gnu-gcc",), ("qemu-aarch64-static", "qemu-aarch64")


def first_of(programs: tuple[str, ...]) -> str:
    found = next((path for name in programs if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"ARM TESTS SKIPPED: {' or '.join(programs)} is not installed")
    return found


def hash_of(
    kernel: str, level: Level, compiler: str, run: list[str], folder: Path, *more_flags: str
) -> str:
    """What a program of one kernel and one thread says of all that the kernel gave."""
    program = folder / f"{kernel}-{level.name}-{Path(compiler).name}"
    sources = [TWIN, SOURCES / "pool.c"]
    defines = [f'-DKERNEL="{kernel}.c"', f"-DOF_{kernel.upper()}", f"-I{SOURCES}"]
    if kernel in PACKED_BY:
        defines.append(f'-DKERNEL2="{PACKED_BY[kernel]}"')
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-O3")]
    optimized = "-O2" if is_night() else "-O1"  # half the compiler's time, and no other bits
    command = [
        compiler,
        *more_flags,
        *flags,
        *level.flags,
        optimized,
        "-static",
        *defines,
        "-o",
        program,
        *sources,
    ]
    subprocess.run([*command, "-lm"], check=True)
    return subprocess.run([*run, program], check=True, capture_output=True, text=True).stdout


@also_at_night
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_on_arm(kernel: str, tmp_path: Path) -> None:
    cross, qemu, here = first_of(CROSS), first_of(QEMU), levels_here()
    if not here:
        pytest.skip("ARM TESTS SKIPPED: this processor has no level to compare with")
    ours = hash_of(kernel, here[0], first_of(COMPILERS), [], tmp_path)
    squares = PACKED_BY if is_night() else ("int8_linear",)  # what `i8mm` has code of its own for
    for name in ("neon", "i8mm") if kernel in squares else ("neon",):
        theirs = hash_of(kernel, level_named(name), cross, [qemu, "-cpu", "max"], tmp_path)
        assert ours == theirs, name


@pytest.mark.prove
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_by_clang(kernel: str, tmp_path: Path) -> None:
    """A Mac's compiler: it takes every file and makes the same bits of it, here and on ARM."""
    clang, here = first_of(("clang",)), levels_here()
    if not here:
        pytest.skip("ARM TESTS SKIPPED: this processor has no level to compare with")
    expected = hash_of(kernel, here[0], first_of(("gcc", "cc")), [], tmp_path)
    for level in here:
        assert hash_of(kernel, level, clang, [], tmp_path) == expected, level.name
    first_of(CROSS)  # its headers and its libc
    emulated, target = [first_of(QEMU), "-cpu", "max"], "--target=aarch64-linux-gnu"
    for name in ("neon", "i8mm"):
        found = hash_of(kernel, level_named(name), clang, emulated, tmp_path, target)
        assert found == expected, name


def test_the_program_shows_a_difference(tmp_path: Path) -> None:
    """Between kernels, not between levels: here, where no emulator is needed."""
    compiler = first_of(COMPILERS)
    hashes = {
        kernel: {hash_of(kernel, level, compiler, [], tmp_path) for level in levels_here()}
        for kernel in ("xielu", "layer_norm")
    }
    assert all(len(each) <= 1 for each in hashes.values())
    assert not hashes["xielu"] & hashes["layer_norm"]
