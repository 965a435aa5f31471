"""Instruction sets that the kernels can be compiled for: on each of them they have the same bits.

`csrc/simd.h` is what makes it so, `tests/model/native/levels/test_levels.py` holds it. A level's
instructions are named one by one instead of -march=native, so that a library's name stands for the
same code everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
LISTS = ("flags", "Features")  # what the list of a core's instructions begins with: x86, ARM


@dataclass(frozen=True, slots=True)
class Level:
    """What a library is compiled for."""

    name: str  # as in `--isa`
    machine: str  # whose it is, as the system calls it: x86_64, aarch64
    define: str  # what the C files ask for
    instructions: Mapping[str, str]  # as the kernel lists CPU flags: as the compiler calls them

    @property
    def flags(self) -> tuple[str, ...]:
        """For the compiler."""
        return (f"-D{self.define}", *self.instructions.values())

    def missing(self, cpu_info: Path = CPU_INFO) -> list[str]:
        """Which instructions this processor does not have; all, where nobody says."""
        try:
            lines = cpu_info.read_text().splitlines()
        except OSError:  # not Linux
            lines = []
        flags = next((line.split(":")[1].split() for line in lines if line.startswith(LISTS)), [])
        return [name for name in self.instructions if name not in flags]


AVX2 = {"avx2": "-mavx2", "fma": "-mfma", "f16c": "-mf16c"}

LEVELS = (  # of a family of processors the quickest first
    Level(
        "avx512vnni",
        "x86_64",
        "LEVEL_AVX512",
        {
            **AVX2,
            "avx512f": "-mavx512f",
            "avx512bw": "-mavx512bw",
            "avx512dq": "-mavx512dq",
            "avx512vl": "-mavx512vl",
            "avx512_vnni": "-mavx512vnni",
        },
    ),
    Level("avxvnni", "x86_64", "LEVEL_AVXVNNI", {**AVX2, "avx_vnni": "-mavxvnni"}),
    Level("avx2", "x86_64", "LEVEL_AVX2", AVX2),
    Level(
        "i8mm",
        "aarch64",
        "LEVEL_I8MM",
        {"asimddp": "-march=armv8.2-a+dotprod", "i8mm": "-march=armv8.2-a+dotprod+i8mm"},
    ),
    Level("neon", "aarch64", "LEVEL_NEON", {"asimddp": "-march=armv8.2-a+dotprod"}),
)


def levels_here(cpu_info: Path = CPU_INFO) -> list[Level]:
    """Those that this processor can run, the quickest first."""
    return [level for level in LEVELS if not level.missing(cpu_info)]


def level_named(name: str) -> Level:
    return next(level for level in LEVELS if level.name == name)
