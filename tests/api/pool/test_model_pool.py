"""A pool's requests that wait, engines that come and go, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from tests.api.pool.fakes import FakeLoadable, member
from tests.oracles.virtual_time import run
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.errors import ServiceUnavailable

Test = Callable[[ModelPool, dict[str, FakeLoadable]], Coroutine[Any, Any, None]]


def with_pool(test: Test, bound: int = 2, is_quick: bool = False, **terms: Any) -> None:
    """`test` with models a, b and c, of which two fit."""

    async def main() -> None:
        made = [member(name, is_quick=is_quick, **terms) for name in "abc"]
        pool = ModelPool([one for one, _ in made], bound, max_waiting=2, max_wait=30)
        loadables = {one.name: loadable for one, loadable in made}
        await test(pool, loadables)
        for loadable in loadables.values():
            loadable.may_stop.set()
        await pool.close()
        assert all(one.state.engine is None or loadable.num_stops for one, loadable in made)

    run(main())


def ask(pool: ModelPool, name: str, end: ExitStack, keep_alive: float | None = None) -> Any:
    return asyncio.ensure_future(pool.acquire(pool.members[name], end.callback, keep_alive))


def phase(pool: ModelPool, name: str) -> ModelPhase:
    return pool.books(pool.members[name]).phase


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_it_loads_for_the_first_request_and_serves_all_who_waited() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            first, second = ask(pool, "a", end), ask(pool, "a", end)
            await settle()
            assert (loadables["a"].num_starts, first.done()) == (1, False)
            with pytest.raises(ServiceUnavailable, match="has 2 requests that wait") as refusal:
                await ask(pool, "a", end)
            assert refusal.value.headers["Retry-After"] == "5"
            loadables["a"].may_load.set()
            await asyncio.gather(first, second)
            assert pool.in_flight == 2
        assert pool.in_flight == 0

    with_pool(test)


def test_who_waits_is_told_where_it_stands_and_after_how_long() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            waits = ask(pool, "a", end)
            await settle()
            pool.members["a"].state.detail = "weights 40%"
            with pytest.raises(ServiceUnavailable) as refusal:
                await waits
            assert asyncio.get_running_loop().time() == 30
            assert "not ready within 30 s (loading: weights 40%)" in str(refusal.value)

    with_pool(test)


def test_a_client_that_leaves_waits_no_more_and_holds_nothing() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            leaves, granted = ask(pool, "a", end), ask(pool, "b", end)
            await settle()
            leaves.cancel()
            loadables["b"].may_load.set()
            await granted
            await settle()
            granted_and_left = ask(pool, "c", end)  # granted in the moment in which it leaves
            await settle()
        loadables["a"].may_load.set()
        loadables["c"].may_load.set()
        for loadable in loadables.values():
            loadable.may_stop.set()
        while phase(pool, "c") is not ModelPhase.READY:
            await asyncio.sleep(0)
        granted_and_left.cancel()
        await asyncio.wait([leaves, granted_and_left])
        assert pool.in_flight == 0

    with_pool(test)


def test_it_sleeps_when_nobody_uses_it_and_wakes_up() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            await ask(pool, "a", end)
        await asyncio.sleep(59)
        assert phase(pool, "a") is ModelPhase.READY
        await asyncio.sleep(2)
        assert phase(pool, "a") is ModelPhase.ASLEEP
        assert pool.members["a"].state.engine is None
        with ExitStack() as end:
            await ask(pool, "a", end, keep_alive=0.0)
        await settle()
        assert (phase(pool, "a"), loadables["a"].num_starts) == (ModelPhase.ASLEEP, 2)

    with_pool(test, is_quick=True, keep_alive=60)


def test_one_is_pushed_out_and_the_next_starts_only_when_its_memory_is_free() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        for loadable in loadables.values():
            loadable.may_load.set()
        with ExitStack() as end:
            await ask(pool, "a", end)
            await ask(pool, "b", end)
        with ExitStack() as end:
            waits = ask(pool, "c", end)
            await asyncio.sleep(5)
            assert (phase(pool, "a"), loadables["c"].num_starts) == (ModelPhase.LEAVING, 0)
            loadables["a"].may_stop.set()
            await waits
            assert [phase(pool, name) for name in "abc"] == ["asleep", "ready", "ready"]

    with_pool(test)


def test_a_crash_ends_one_model_and_an_operator_can_have_it_back() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            await ask(pool, "a", end)
            await ask(pool, "b", end)
            loadables["a"].die("five times")
            await settle()
            assert [phase(pool, name) for name in "ab"] == ["failed", "ready"]
            with pytest.raises(ServiceUnavailable, match="POST /models/load") as refusal:
                await ask(pool, "a", end)
            assert refusal.value.code == "engine_failed"
            await ask(pool, "b", end)
        await pool.load(pool.members["a"])
        assert phase(pool, "a") is ModelPhase.READY

    with_pool(test, is_quick=True)


def test_a_model_that_cannot_be_loaded_says_so_to_all_who_wait() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        loadables["a"].error = "no such file"
        with ExitStack() as end:
            waits = [ask(pool, "a", end) for _ in range(2)]
            await settle()
            loadables["a"].may_load.set()
            for one in waits:
                with pytest.raises(ServiceUnavailable, match="could not be loaded"):
                    await one

    with_pool(test)


def test_a_server_that_leaves_lets_nobody_wait() -> None:
    async def test(pool: ModelPool, loadables: dict[str, FakeLoadable]) -> None:
        with ExitStack() as end:
            waits = ask(pool, "a", end)
            await settle()
            await pool.close()
            with pytest.raises(ServiceUnavailable, match="shutting down"):
                await waits

    with_pool(test)
