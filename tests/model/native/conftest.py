"""Every instruction set that this processor can run: `native` is each, where that is cheap."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thirdeye.model.native.build import Unavailable
from thirdeye.model.native.levels import LEVELS, Level, levels_here
from thirdeye.model.native.library import Library
from thirdeye.server.load.native_kernels import plan_native

# Twins, kernel by kernel. Tapes and whole models: test_levels.py.
ON_EVERY_LEVEL = ("test_float_linear", "test_int8_linear", "test_paged_attention")
ON_EVERY_LEVEL += ("test_small_kernels", "test_stored_linear", "test_lora_kernel")


@pytest.fixture(scope="session")
def levels() -> dict[str, Library]:
    """All that can be compiled and run here, by name, the quickest first; skips where none can."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = (level.name for level in LEVELS)
        made = dict(zip(names, pool.map(_compiled, LEVELS), strict=True))
    libraries = {name: Library(found) for name, found in made.items() if isinstance(found, Path)}
    if not libraries:
        reasons = (f"{name}: {reason}" for name, reason in made.items())
        pytest.skip(f"NATIVE TESTS SKIPPED: {'; '.join(reasons)}")
    return libraries


def _compiled(level: Level) -> Path | Unavailable:
    try:
        build = plan_native(level.name)
        build.run()
    except Unavailable as reason:
        return reason
    return build.library


@pytest.fixture(scope="session")
def native(request: pytest.FixtureRequest, levels: dict[str, Library]) -> Library:
    """One level: the test's, if it is for every one, else the quickest."""
    name = getattr(request, "param", next(iter(levels)))
    if name not in levels:
        pytest.skip(f"NATIVE TESTS SKIPPED: no {name} here")
    return levels[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_cheap = metafunc.module.__name__.rpartition(".")[2] in ON_EVERY_LEVEL
    if is_cheap and "native" in metafunc.fixturenames:
        names = [level.name for level in levels_here()] or ["any level"]  # test_levels.py says so
        metafunc.parametrize("native", names, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of a worker compiles, and five minutes are little on a machine that does much."""
    for item in items:
        if isinstance(item, pytest.Function) and "levels" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(900))
