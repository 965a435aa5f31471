"""One served model as an object, over a real transformer in a thread of this process."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.api.support import client_of
from tests.tiny import tiny_llama
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.replica import Replica
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
            assert (await ask(client, 4)).status_code == 503
            info = await replica.start()
            assert (info.device, info.max_model_len) == ("cpu", 256)
            assert (replica.is_ready, replica.health()) == (True, None)
            assert (await ask(client, 4)).json()["usage"]["completion_tokens"] == 4
            answering = asyncio.create_task(ask(client, 100))
            await begun(replica)
            await replica.drain(60)
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


def test_the_longest_wait_is_the_admissions(checkpoint: Path) -> None:
    assert replica_of(checkpoint, max_queue_time=3).state.admission.max_wait == 3
    assert replica_of(checkpoint).state.admission.max_wait == 10
