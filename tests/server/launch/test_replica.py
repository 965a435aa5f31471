"""One served model as an object, over a real transformer in a thread of this process."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.api.support import client_of
from tests.tiny import tiny_llama
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.replica import Replica, build_app
from thirdeye.server.settings.read_settings import read_settings

BODY = {"model": "tiny", "prompt": "Once", "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny_llama(path)
    return path


def no_process() -> Spawned:
    raise AssertionError("a thread needs none")


def replica_of(checkpoint: Path, **options: object) -> Replica:
    flags = {"device": "cpu", "threads": 1, "kv_memory": 0.01, "engine": "thread"}
    settings = read_settings(
        {
            "model": str(checkpoint),
            "served_model_name": ["tiny"],
            "quantize": "none",
            **flags,
            **options,
        }
    )
    return Replica(settings, open_model(settings.checkpoint), no_process)


async def ask(client: httpx.AsyncClient, max_tokens: int) -> httpx.Response:
    return await client.post("/v1/completions", json={**BODY, "max_tokens": max_tokens})


async def begun(replica: Replica) -> None:
    while replica.state.admission.in_flight == 0:
        await asyncio.sleep(0)


def test_it_starts_serves_drains_and_closes(checkpoint: Path) -> None:
    async def main() -> None:
        replica = replica_of(checkpoint)
        async with client_of(replica.app) as client:
            assert (replica.is_ready, replica.health()) == (False, None)
            assert replica.stats() is None
            assert (await ask(client, 4)).status_code == 503
            info = await replica.start()
            assert (info.device, info.max_model_len) == ("cpu", 256)
            assert (replica.is_ready, replica.health()) == (True, None)
            assert (await ask(client, 4)).json()["usage"]["completion_tokens"] == 4
            answering = asyncio.create_task(ask(client, 100))
            await begun(replica)
            await replica.drain(60)
            stats = replica.stats()
            assert stats is not None
            assert (stats.num_requests_running, stats.num_requests_waiting) == (0, 0)
            assert replica.state.admission.in_flight == 0
            assert not replica.is_ready
            assert replica.health() is not None
            assert (await answering).json()["usage"]["completion_tokens"] == 100
            assert (await ask(client, 4)).json()["error"]["code"] == "server_draining"
            await replica.close()

    asyncio.run(main())


def test_what_still_runs_when_it_closes_ends_with_an_error(checkpoint: Path) -> None:
    async def main() -> None:
        replica = replica_of(checkpoint)
        await replica.start()
        async with client_of(replica.app) as client:
            answering = asyncio.create_task(ask(client, 250))
            await begun(replica)
            await replica.drain(0)
            await replica.close()
            assert (await answering).status_code == 503
        assert replica.state.admission.in_flight == 0

    asyncio.run(main())


def test_its_end_is_no_other_replicas(checkpoint: Path) -> None:
    """Timelines never end by themselves: of two replicas in a process each cuts its own."""

    async def main() -> None:
        replicas = [replica_of(checkpoint) for _ in range(2)]
        watching = []
        for replica in replicas:
            await replica.start()
            watching.append(await watched(replica.app))
        await replicas[0].close()
        await watching[0]
        async with client_of(replicas[1].app) as client:
            answer = await client.post("/v1/completions", json={**BODY, "stream": True})
            assert answer.text.endswith("data: [DONE]\n\n")
        assert not watching[1].done()
        await replicas[1].close()
        await watching[1]

    asyncio.run(main())


async def watched(app: ASGIApp) -> "asyncio.Task[None]":
    """Of a timeline that has begun."""
    begun = asyncio.Event()
    never: Receive = asyncio.Event().wait  # type: ignore[assignment]  # it is never answered

    async def send(_: Message) -> None:
        begun.set()

    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/timeline", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1)}
    watching = asyncio.ensure_future(app(scope, never, send))
    await begun.wait()
    return watching


def test_keys_are_read_again_and_a_bad_file_changes_nothing(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """503 is "loading", so the key was accepted; 401 is not."""
    file = tmp_path / "keys"
    file.write_text("old-key\n")
    replica = replica_of(checkpoint, api_key_file=file)

    async def statuses() -> list[int]:
        async with client_of(replica.app) as client:
            keys = ("old-key", "new-key")
            answers = [await client.get("/load", headers={"x-api-key": key}) for key in keys]
            return [answer.status_code for answer in answers]

    assert asyncio.run(statuses()) == [503, 401]
    file.write_text("old-key\nalice use new-key\n")
    replica.reread_keys()
    assert asyncio.run(statuses()) == [503, 503]
    file.write_text("alice use new-key\n")
    replica.reread_keys()
    assert asyncio.run(statuses()) == [401, 503]
    for bad in ("alice nothing old-key\n", ""):
        file.write_text(bad)
        replica.reread_keys()
        assert asyncio.run(statuses()) == [401, 503]
    file.unlink()
    replica.reread_keys()
    assert asyncio.run(statuses()) == [401, 503]
    assert "Line 1: the scopes are" in caplog.text
    assert "The keys stay as they were" in caplog.text
    assert "old-key" not in caplog.text


def test_ranks_are_processes(checkpoint: Path) -> None:
    with pytest.raises(EngineDead, match="thread does not go with '--tensor-parallel' 2: ranks"):
        asyncio.run(replica_of(checkpoint, tensor_parallel=2).start())


def test_the_longest_wait_is_the_admissions(checkpoint: Path) -> None:
    assert replica_of(checkpoint, max_queue_time=3).state.admission.max_wait == 3
    assert replica_of(checkpoint).state.admission.max_wait == 10


def test_a_name_of_the_operators_is_answered_without_a_key(checkpoint: Path) -> None:
    async def statuses(**options: object) -> list[int]:
        async with client_of(replica_of(checkpoint, **options).app) as client:
            hosts = ("localhost", "api.example.com:443", "other.example.com")
            return [(await client.get("/ping", headers={"host": h})).status_code for h in hosts]

    assert asyncio.run(statuses()) == [503, 403, 403]  # 503: it is loading
    assert asyncio.run(statuses(allow_host=["api.example.com"])) == [503, 503, 403]


def test_before_it_drains_it_serves_and_wants_no_more(checkpoint: Path) -> None:
    async def main() -> None:
        replica = replica_of(checkpoint)
        await replica.start()
        async with client_of(replica.app) as client:
            assert (await client.get("/ready")).status_code == 200
            draining = asyncio.create_task(replica.drain(60, delay=3600))
            await asyncio.sleep(0)
            ready = await client.get("/ready")
            assert (ready.status_code, replica.is_ready) == (503, False)
            assert ready.json()["error"]["code"] == "server_draining"
            assert (await client.get("/health")).status_code == 200
            assert (await ask(client, 4)).json()["usage"]["completion_tokens"] == 4
            draining.cancel()
        await replica.close()

    asyncio.run(main())


@pytest.mark.parametrize("is_named_outside", [False, True])
def test_an_answer_has_one_request_id(checkpoint: Path, is_named_outside: bool) -> None:
    """Also where the app runs inside a layer that names requests, as Ray Serve's does."""
    replica = replica_of(checkpoint)
    if is_named_outside:
        app = NamingLayer(build_app(replica.settings, replica.state, is_named_outside=True))
    else:
        app = replica.app

    async def main() -> None:
        async with client_of(app) as client:
            for path in ("/ping", "/v1/models", "/nope"):
                answer = await client.get(path, headers={"x-request-id": "mine"})
                assert answer.headers.get_list("x-request-id") == ["mine"]
                answer = await client.get(path)
                assert len(answer.headers.get_list("x-request-id")) == 1

    asyncio.run(main())


class NamingLayer:
    """Names requests that have no name, and adds the name to the answer whatever is there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = MutableHeaders(scope=scope)
        headers.setdefault("x-request-id", "outer")

        async def outer_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("x-request-id", headers["x-request-id"])
            await send(message)

        await self._app(scope, receive, outer_send)
