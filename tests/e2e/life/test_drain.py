"""Signals to the real server: answers in flight end well, nobody hangs, nothing ugly is printed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.draws import also_at_night, count, is_night
from tests.e2e.live import ROOT, LiveServer
from tests.e2e.procfs import HANGS, is_running, seconds_until
from tests.tiny import tiny_llama

BODY = {"model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 200, "ignore_eos": True}
UNENDING = 8000  # tokens: long before they have come, any signal is known
COMPLETIONS = "/v1/completions"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny_llama(path, context=8192)
    return str(path)


def start(tiny: str, *args: str) -> LiveServer:
    options = ["--served-model-name", "tiny", "--max-num-seqs", "16", "--speculation", "off"]
    return LiveServer([tiny, *options, *args]).start()


class Load:
    """Streams, and as many whole answers as asked, in flight against a server."""

    def __init__(
        self,
        server: LiveServer,
        client: httpx.AsyncClient,
        num_whole: int = 0,
        max_tokens: int = BODY["max_tokens"],
    ) -> None:
        self.server = server
        self._body = BODY | {"max_tokens": max_tokens}
        self._client = client
        self._started = asyncio.Semaphore(0)
        self.streams = [asyncio.create_task(self._stream()) for _ in range(16)]
        self.wholes = [asyncio.create_task(self._whole()) for _ in range(num_whole)]

    async def _stream(self) -> list[str]:
        body = {**self._body, "stream": True}
        async with self._client.stream("POST", COMPLETIONS, json=body) as answer:
            self._started.release()
            return [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]

    async def _whole(self) -> httpx.Response:
        return await self._client.post(COMPLETIONS, json=self._body)

    async def begun(self) -> None:
        for _ in self.streams:
            await self._started.acquire()

    async def signal(self, number: int = signal.SIGTERM) -> None:
        self.server.process.send_signal(number)
        while True:  # until it is known inside, or the server is gone
            try:
                health = await self._client.get("/health")
            except httpx.TransportError:
                return
            if health.status_code == 503:
                return


def drive(server: LiveServer, scenario, **options) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, trust_env=False, timeout=30, limits=limits
        ) as client:
            load = Load(server, client, **options)
            await load.begun()
            await scenario(load, client)
            await asyncio.gather(*load.streams, *load.wholes, return_exceptions=True)

    asyncio.run(main())


def ended_well(lines: list[str]) -> bool:
    choices = json.loads(lines[-2]).get("choices")
    return lines[-1] == "[DONE]" and bool(choices) and choices[0]["finish_reason"] == "length"


def was_cut(lines: list[str], code: str = "server_draining") -> bool:
    return lines[-1] == "[DONE]" and json.loads(lines[-2]).get("error", {}).get("code") == code


async def all_are_cut(load: Load) -> None:
    """Each stream was cut with a word, each whole answer is a 503."""
    assert all(was_cut(lines) for lines in await asyncio.gather(*load.streams))
    for answer in await asyncio.gather(*load.wholes):
        assert answer.status_code == 503


async def interrupted(load: Load, client: httpx.AsyncClient) -> None:
    """SIGINT to the whole process group: everything that has begun is completed."""
    for pid in [load.server.process.pid, *load.server.children()]:
        os.kill(pid, signal.SIGINT)
    await all_end_well(load)


async def drained(load: Load, client: httpx.AsyncClient) -> None:
    """One signal: everything that has begun is completed, nothing new is."""
    kept = BODY | {"stream": True, "max_tokens": UNENDING}
    async with client.stream("POST", COMPLETIONS, json=kept):  # the server is there until it leaves
        await load.signal()
        refused = await client.post(COMPLETIONS, json=BODY)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_draining"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
    await all_end_well(load)


async def all_end_well(load: Load) -> None:
    assert all(ended_well(lines) for lines in await asyncio.gather(*load.streams))
    for answer in await asyncio.gather(*load.wholes):
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "server_draining"


def check_gone(server: LiveServer, engines: list[int]) -> None:
    assert server.process.wait(HANGS) == 0, server.output
    server.kill()
    assert not any(is_running(engine) for engine in engines)
    assert "Traceback" not in server.output, server.output


@also_at_night
@pytest.mark.timeout(900)
def test_everything_in_flight_is_completed(tiny):
    """16 streams reach their [DONE], whole answers their 200; status 0. At a push by a terminal's
    Ctrl-C, which the engine is told as well; fifty times by SIGTERM at night, and new requests get
    503 (at a push: `tests/api/http/test_serve.py`, over a fake engine)."""
    for _ in range(count(1, 50)):
        server = start(tiny, "--max-num-seqs", "24")  # a row for each
        engines = server.children()
        drive(server, drained if is_night() else interrupted, num_whole=4)
        check_gone(server, engines)


@pytest.mark.prove
def test_a_second_signal_ends_at_once(tiny):
    """What still runs ends with an error event and [DONE], or with a 503, as when time is up. (At a
    push: `tests/api/http/test_serve.py`, over a fake engine.)"""
    # Each has a row: one that waited for a row would be waited for until another has ended.
    server = start(tiny, "--max-num-seqs", "20")
    engines = server.children()

    async def scenario(load: Load, client: httpx.AsyncClient) -> None:
        await load.signal()  # and the server has taken it: two at once would be one
        server.process.send_signal(signal.SIGTERM)
        await all_are_cut(load)

    drive(server, scenario, num_whole=4, max_tokens=UNENDING)
    check_gone(server, engines)


@pytest.mark.prove
def test_out_of_time(tiny):
    """The same when time is up. (At a push: `tests/api/http/test_serve.py`, over a fake engine.)"""
    server = start(tiny, "--drain-timeout", "0", "--max-num-seqs", "20")
    engines = server.children()

    async def scenario(load: Load, client: httpx.AsyncClient) -> None:
        server.process.send_signal(signal.SIGTERM)
        await all_are_cut(load)

    drive(server, scenario, num_whole=4, max_tokens=UNENDING)
    check_gone(server, engines)


@pytest.mark.prove
def test_a_terminals_ctrl_c(tiny):
    server = start(tiny)
    engines = server.children()
    drive(server, interrupted, num_whole=4)
    check_gone(server, engines)


@also_at_night
@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (signal.SIGTERM, 0.5),
        pytest.param(signal.SIGINT, 0, marks=pytest.mark.prove),
        pytest.param(signal.SIGINT, 1.5, marks=pytest.mark.prove),
    ],
)
def test_a_signal_to_all_while_the_model_loads(tiny, number, seconds):
    """At any moment of the start: the server leaves with 0, quickly and quietly."""
    with subprocess.Popen(
        [sys.executable, "-m", "thirdeye.server.cli", "serve", tiny, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "loading" in first
        time.sleep(seconds)
        os.killpg(process.pid, number)
        assert process.wait(25) == 0
        assert "Traceback" not in process.stdout.read()
    seconds_until(lambda: not group_exists(process.pid))


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
