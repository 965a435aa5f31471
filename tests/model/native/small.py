"""A library made of a few lines of a test's own, on top of the kernels' shared parts."""

from pathlib import Path

import pytest

from thirdeye.model.native.build import SOURCES, Unavailable, plan_build
from thirdeye.model.native.levels import levels_here
from thirdeye.model.native.library import Library

LEVEL_NAMES = [level.name for level in levels_here()] or ["auto"]


def small_library(folder: Path, source: str, *shared: str, isa: str = "auto") -> Library:
    """`source` and the files of the kernels that it needs, compiled; skips where nothing can be."""
    sources = folder / "sources"
    sources.mkdir()
    for name in shared:
        (sources / name).write_bytes((SOURCES / name).read_bytes())
    (sources / "small.c").write_text(source)
    try:
        build = plan_build(folder / "cache", isa=isa, sources=sources)
    except Unavailable as reason:
        pytest.skip(f"NATIVE TESTS SKIPPED: {reason}")
    build.run()
    return Library(build.library)
