"""A model that cannot be started, since the system gives no process, thread or memory: it alone
fails, nothing of it holds memory, and the others answer on."""

import asyncio
from contextlib import ExitStack

import pytest

from tests.api.pool.fakes import FakeLoadable
from tests.api.pool.test_model_pool import ask, phase, settle, with_pool
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.errors import ServiceUnavailable

ERRORS = [
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_load_that_fails_anyhow(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        async def start() -> None:
            raise error

        with ExitStack() as end, monkeypatch.context() as patch:
            await ask(pool, "b", end)
            patch.setattr(loadables["a"], "start", start)
            with pytest.raises(ServiceUnavailable, match="could not be loaded"):
                await ask(pool, "a", end)
            assert [phase(pool, name) for name in "ab"] == ["failed", "ready"]
            assert pool.residency.num_bytes == 1, "b's"
            assert loadables["a"].num_stops == 1, "whatever was started of it has ended"
            with pytest.raises(ServiceUnavailable, match=type(error).__name__):
                await pool.load(pool.members["a"])  # an operator is told why
            await ask(pool, "b", end)
            await ask(pool, "c", end)
        await pool.load(pool.members["a"])
        assert phase(pool, "a") is ModelPhase.READY

    with_pool(test, is_quick=True)


def test_one_that_fails_after_its_engine_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ends before its memory is counted as free."""

    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        async def supervise() -> None:
            raise MemoryError

        monkeypatch.setattr(loadables["a"], "supervise", supervise)
        loadables["a"].may_stop.clear()
        with ExitStack() as end:
            await ask(pool, "a", end)
            await settle()
            assert loadables["a"].num_stops == 1
            assert pool.residency.num_bytes == 1, "its process is still there"
            loadables["a"].may_stop.set()
            await settle()
            assert phase(pool, "a") is ModelPhase.FAILED
            assert pool.residency.num_bytes == 0

    with_pool(test, is_quick=True)


def test_who_gives_way_is_no_request_s_concern() -> None:
    """The kernel says no, or a process has just ended: requests are answered all the same."""

    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        def refuse(_: float) -> None:
            raise PermissionError(1, "Operation not permitted")

        pool.on_change = refuse
        with ExitStack() as end:
            await asyncio.gather(ask(pool, "a", end), ask(pool, "b", end))
            assert pool.in_flight == 2
        assert pool.in_flight == 0
        assert [phase(pool, name) for name in "ab"] == ["ready", "ready"]

    with_pool(test, is_quick=True)


@pytest.mark.parametrize("num_tries", [1, 2], ids=["once", "for good"])
def test_one_whose_process_cannot_be_ended(
    num_tries: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, and then told as failed: nobody waits for it, nor for its memory."""

    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        left = [OSError(24, "Too many open files")] * num_tries
        own = loadables["a"].stop

        async def stop() -> None:
            if left:
                raise left.pop()
            await own()

        monkeypatch.setattr(loadables["a"], "stop", stop)
        with ExitStack() as end:
            await asyncio.gather(ask(pool, "a", end), ask(pool, "b", end))
        with ExitStack() as end:
            await asyncio.wait_for(ask(pool, "c", end), 20)  # in its place
        assert phase(pool, "a") == ("asleep" if num_tries == 1 else "failed")
        assert pool.residency.num_bytes == 2
        assert "a: its process could not be ended" in caplog.text
        if num_tries == 2:
            with ExitStack() as end, pytest.raises(ServiceUnavailable, match="not be kept alive"):
                await ask(pool, "a", end)
        await pool.load(pool.members["a"])  # an operator's wish is tried anew
        assert phase(pool, "a") is ModelPhase.READY

    with_pool(test, is_quick=True)


def test_the_end_of_all_waits_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be ended keeps nobody from ending the others."""

    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        async def stop() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(loadables["a"], "stop", stop)
        with ExitStack() as end:
            await asyncio.gather(ask(pool, "a", end), ask(pool, "b", end))
        loadables["a"].num_stops = 1
        await pool.close()
        assert loadables["b"].num_stops == 1
        assert not pool._tasks

    with_pool(test, is_quick=True)
