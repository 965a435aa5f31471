"""What every room's tests share: the default model, and clean ground before and after each test.

Torch is imported where tests are collected, and not here: whoever only hands them out to the
workers of `--numprocesses` reads this file as well.
"""

import gc
import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is: three workers on two cores must not spin while they wait for the others' threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251  # the OpenMP library's own

# Before triton is imported by anybody: without a GPU its kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # noqa: TID251  # triton's own switch

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import read_once
from tests.draws import NIGHT, PUSH, is_night, mark_properties
from tests.oracles.wire import Wire, reading_along
from tests.versions import TOO_OLD, TooOld

if TYPE_CHECKING:
    from thirdeye.model.native.build import Unavailable
    from thirdeye.model.native.library import Library

ROOT = Path(__file__).parent


def install_interpreter() -> None:
    """What triton's interpreter is mended by, before any test file imports a kernel."""
    if find_spec("triton"):
        from tests.oracles.interpreter import (
            interpreted_builtins,
            interpreted_dot,
            interpreted_index,
            interpreted_types,
        )

        interpreted_builtins.install()
        interpreted_dot.install()
        interpreted_index.install()
        interpreted_types.install()


# `pytest --hypothesis-profile=prove`: what a night can afford, and a push cannot.
settings.register_profile(
    "prove",
    max_examples=2000,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def pytest_configure(config: pytest.Config) -> None:
    """`-m prove` draws the full numbers: before any test file asks."""
    if config.option.markexpr == "prove":
        settings.load_profile(NIGHT)
    elif not config.getoption("--hypothesis-profile"):
        settings.load_profile(PUSH)


# Files of few tests that take long: at the end one worker would be left alone with one.
FIRST = ("contract", "install", "e2e", "model/native", "fake_gpu")
FIRST += ("browser", "architectures", "server", "engine", "model")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Nobody looks for garbage in what is imported and collected: it stays, and is large.

    That was a third of the time of collecting, and half a second whenever a test asks for it. And
    they look seldom: an application is full of cycles, and tests make thousands.
    """
    gc.disable()
    if not session.config.pluginmanager.has_plugin("dsession"):  # it hands tests out, no more
        install_interpreter()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)  # Python's own: 700, 10, 10
        gc.enable()
        gather_logs()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What a file leaves behind is looked through once, at its end, and by no later test.

    A worker imports ever more, transformers' models above all: whatever asks for a collection, as
    the trial of a GPU's memory does, took half a second of it where it takes ten milliseconds now.
    """
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def gather_logs() -> None:
    """Of torch's fifty loggers each keeps its records for itself: pytest listened to every single
    one, six times a test."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith("torch."):
            logger.propagate = True  # to `torch`, which has a handler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dear folders come first. What an older library cannot run skips: the table says why."""
    if is_night():
        mark_properties(items)
    order = {ROOT / folder: place for place, folder in enumerate(FIRST)}
    place = {
        file: min(order.get(folder, len(order)) for folder in file.parents)
        for file in {item.path for item in items}
    }
    items.sort(key=lambda item: place[item.path])
    for row in filter(TooOld.is_installed, TOO_OLD):
        for item in items:
            if row.fits(item.nodeid):
                reason = f"needs {row.package} {row.needs}: {row.reason}"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.option.dist != "loadfile":
        return None
    from tests.one_worker import SharingScheduling  # xdist is there, who asks is it

    return SharingScheduling(config, log)


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The embedded default model's file; without it these tests skip, loudly."""
    from thirdeye.weights.errors import ModelNotFound
    from thirdeye.weights.resolve import resolve_model

    try:
        return resolve_model(None)
    except ModelNotFound as error:
        pytest.skip(f"REAL-WEIGHT TESTS SKIPPED: {error}")


@pytest.fixture(scope="session", autouse=True)
def kernels() -> "Path | Unavailable":
    """The compiled kernels, before the first test: no server finds them later than another does."""
    from thirdeye.model.native.build import Unavailable
    from thirdeye.server.load.native_kernels import plan_native

    try:
        build = plan_native()
        build.run()
    except Unavailable as reason:
        return reason
    return build.library


@pytest.fixture(scope="session")
def native(kernels: "Path | Unavailable", served_native: "Library | None") -> "Library":
    """The kernels, loaded; without a compiler or the instructions these tests skip, loudly."""
    if served_native is None:
        pytest.skip(f"NATIVE TESTS SKIPPED: {kernels}")
    return served_native


@pytest.fixture(scope="session")
def served_native(kernels: "Path | Unavailable") -> "Library | None":
    """What a server on this machine computes with."""
    from thirdeye.model.native.library import Library

    return Library(kernels) if isinstance(kernels, Path) else None


@pytest.fixture(autouse=True)
def plain_process():
    """No test leaves a default dtype, a thread count or a configured log behind: a process that
    serves leaves out what its log has just said."""
    import torch

    from thirdeye.server.logs import QUIET

    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    logs = [(log, log.level, [*log.filters]) for log in map(logging.getLogger, QUIET)]
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    for log, level, filters in logs:
        if log.level != level:  # to set it empties what all loggers have cached
            log.setLevel(level)
        log.filters[:] = filters


@pytest.fixture(scope="session", autouse=True)
def certificates():
    with read_once():
        yield


@pytest.fixture(scope="session")
def wire():
    """Whoever asks one of our servers: what it answers is held against the published schemas."""
    with reading_along() as wire:
        yield wire


@pytest.fixture(autouse=True)
def schema_exact(wire: Wire):
    """No test passes that was given an answer its API's publisher would not know."""
    wire.faults.clear()
    yield
    assert not wire.faults, "\n".join(wire.faults[:10])
