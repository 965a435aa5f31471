"""What triton compiles in C beside a kernel: its launcher, and what asks the driver.

Triton 3.6 has a launcher for each kind of arguments, half a second of a C compiler each; from 3.7
on one is for all. They lie in the same cache as machine code, under a key of their source, so they
can be brought along too. Nothing is loaded here: what they are linked against, the driver's
library, is there and not here, and where a build does not fit there triton makes it again.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from triton.backends.nvidia import driver as nvidia
from triton.runtime import build

LOADS = "_load_module_from_path"


def keep_utilities() -> None:
    """What every process loads first."""
    with patch.object(build, LOADS, lambda *_: None):
        build.compile_module_from_src(
            src=(Path(nvidia.dirname) / "driver.c").read_text(),
            name="cuda_utils",
            library_dirs=nvidia.library_dirs(),
            include_dirs=nvidia.include_dirs,
            libraries=nvidia.libraries,
        )


def keep_launcher(source: Any, metadata: Any) -> None:
    """Of one kernel, if it has one of its own."""
    if hasattr(nvidia, "make_launcher"):
        with patch.object(build, LOADS, lambda *_: SimpleNamespace(launch=None)):
            nvidia.CudaLauncher(source, metadata)
