"""A key that is taken away: what runs with it ends with an error, and nothing else does."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, client_over, fake_engine, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.revocation import Revocation
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.errors import Unauthorized

ALICE, BOB = "alice use,inspect,operate alices-key", "bob use bobs-key"
Ask = Callable[..., Awaitable[httpx.Response]]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def served(
    scenario: Callable[[ServerState, FakeEngine, Ask], Awaitable[None]],
) -> None:
    """Over an engine that says nothing until it is aborted."""
    engine = fake_engine(gate=threading.Event())
    state = ready_state(engine)

    async def main() -> None:
        async with client_over(state, ApiConfig(api_keys=(ALICE, BOB))) as client:

            def ask(key: str, path: str = "/v1/chat/completions", **fields: object) -> object:
                headers = {"x-api-key": key}
                body = {**CHAT, **fields}
                return client.post(path, json=body, headers=headers)

            await asyncio.wait_for(scenario(state, engine, ask), 30)  # type: ignore[arg-type]
        assert state.admission.in_flight == 0
        assert len(state.keys.revocations) == 0

    asyncio.run(main())


@pytest.mark.parametrize("lines", [(BOB,), ("alice use alices-key", BOB)], ids=["gone", "less"])
def test_a_stream_ends_with_an_event_and_its_work_is_aborted(lines: tuple[str, ...]) -> None:
    async def scenario(state: ServerState, engine: FakeEngine, ask: Ask) -> None:
        streams = [asyncio.ensure_future(ask("alices-key", stream=True, n=2)) for _ in range(3)]
        other = asyncio.ensure_future(ask("bobs-key"))
        await until(lambda: len(engine.requests) == 7)
        assert state.keys.replace(lines) == 3
        for stream in streams:
            answer = await stream
            events = answer.text.split("\n\n")
            last = json.loads(
                events[-3].removeprefix("data: ") if answer.is_success else answer.text
            )
            assert last["error"]["code"] == "key_revoked"
        assert len(engine.aborted) == 6
        assert engine._gate is not None
        engine._gate.set()
        assert (await other).status_code == 200

    served(scenario)


def test_a_stream_that_has_begun_ends_with_an_event() -> None:
    engine = fake_engine(hang_after=3)
    state = ready_state(engine)

    async def main() -> list[str]:
        config = ApiConfig(api_keys=(ALICE, BOB), sse_ping=0)
        async with client_over(state, config) as client:
            headers = {"x-api-key": "alices-key"}
            asked = client.post(
                "/v1/chat/completions", json=CHAT | {"stream": True}, headers=headers
            )
            stream = asyncio.ensure_future(asked)
            await until(lambda: engine.stats().generation_tokens_total == 3)
            assert state.keys.replace((BOB,)) == 1
            answer = await asyncio.wait_for(stream, 30)
            assert answer.status_code == 200
            return [event for event in answer.text.split("\n\n") if event]

    *chunks, error, done = asyncio.run(main())
    assert len(chunks) >= 3
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "key_revoked"
    assert done == "data: [DONE]"
    assert len(engine.aborted) == 1


def test_a_whole_answer_is_a_401() -> None:
    async def scenario(state: ServerState, engine: FakeEngine, ask: Ask) -> None:
        whole = asyncio.ensure_future(ask("alices-key"))
        await until(lambda: len(engine.requests) == 1)
        state.keys.replace((BOB,))
        answer = await whole
        assert check_envelope(answer)["code"] == "key_revoked"
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert len(engine.aborted) == 1

    served(scenario)


def test_a_timeline_ends_at_the_next_step() -> None:
    engine = fake_engine()
    state = ready_state(engine)

    async def main() -> str:
        async with client_over(state, ApiConfig(api_keys=(ALICE, BOB))) as client:
            headers = {"x-api-key": "alices-key"}
            watching = asyncio.ensure_future(client.get("/v1/timeline", headers=headers))
            await until(lambda: len(state.keys.revocations) == 1)
            await asyncio.sleep(0)
            state.keys.replace((BOB,))
            await client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": "bobs-key"})
            return (await asyncio.wait_for(watching, 30)).text

    events = [event for event in asyncio.run(main()).split("\n\n") if event]
    assert '"key_revoked"' in events[-2]
    assert len(events) == 2  # no step of the others is told


def test_another_line_of_the_same_name_goes_on() -> None:
    """Replacing a key: the old line goes, and only what was asked with it."""

    async def scenario(state: ServerState, engine: FakeEngine, ask: Ask) -> None:
        both = ("bob use bobs-key", "bob use bobs-next-key")
        state.keys.replace((ALICE, *both))
        old, new = (asyncio.ensure_future(ask(line.split()[-1])) for line in both)
        await until(lambda: len(engine.requests) == 2)
        assert state.keys.replace((ALICE, both[1])) == 1
        assert (await old).status_code == 401
        assert engine._gate is not None
        engine._gate.set()
        assert (await new).status_code == 200

    served(scenario)


def test_who_else_cancels_the_work_is_obeyed() -> None:
    async def main() -> None:
        revocation = Revocation()

        async def guarded() -> None:
            await revocation.guard(asyncio.sleep(60))

        task = asyncio.ensure_future(guarded())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        both = asyncio.ensure_future(guarded())
        await asyncio.sleep(0)
        revocation.revoke()
        both.cancel()
        with pytest.raises(asyncio.CancelledError):
            await both
        with pytest.raises(Unauthorized):
            await revocation.guard(asyncio.sleep(60))

    asyncio.run(main())
