"""kill -9 of the engine, and of the server: who is told what how soon, and what is left behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.e2e.live import COMMAND, ENGINE, ROOT, LiveServer
from tests.e2e.procfs import (
    children,
    is_running,
    num_connections,
    num_descriptors,
    runs_module,
    seconds_until,
    shared_memory,
)
from tests.tiny import tiny_llama

CONTEXT = 8192  # no answer is over before it is killed, on whatever machine
BODY = {"model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 8000, "ignore_eos": True}
COMPLETIONS = "/v1/completions"
# A place for each of 18: who waits for one begins when another has ended.
OPTIONS = ("--served-model-name", "tiny", "--max-num-seqs", "20", "--speculation", "off")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny_llama(path, context=CONTEXT)
    return str(path)


@pytest.fixture
def server(checkpoint):
    server = LiveServer([checkpoint, *OPTIONS])
    yield server
    server.kill()


@pytest.fixture(scope="module")
def survivor(checkpoint):
    """A server that outlives its engines, of which each test may kill one; the last one ends it."""
    server = LiveServer([checkpoint, *OPTIONS]).start()
    yield server
    server.kill()
    assert "Traceback" not in server.output


def status(server: LiveServer, path: str) -> int:
    try:
        with urllib.request.urlopen(server.url + path, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def answers(server: LiveServer) -> bool:
    body = {**BODY, "max_tokens": 1}
    url = server.url + COMPLETIONS
    return httpx.post(url, json=body, trust_env=False, timeout=30).status_code == 200


async def ending(client: httpx.AsyncClient, started: "asyncio.Semaphore", stream: bool) -> str:
    """How an answer ended, in the words of its error's code; `done` if it did not fail."""
    body = {**BODY, "stream": stream}
    async with client.stream("POST", COMPLETIONS, json=body) as answer:
        started.release()
        if not stream or answer.status_code != 200:
            await answer.aread()
            return "done" if answer.status_code == 200 else answer.json()["error"]["code"]
        lines = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    last = json.loads(lines[-2])
    return last["error"]["code"] if "error" in last else "done"


async def kill_under(server: LiveServer, num_streams: int, seconds: float) -> list[str]:
    """How the streams ended whose engine was killed under them, all within so many seconds."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
        started = asyncio.Semaphore(0)
        streams = [
            asyncio.create_task(ending(client, started, stream=True)) for _ in range(num_streams)
        ]
        wholes = [asyncio.create_task(ending(client, started, stream=False)) for _ in range(2)]
        for _ in streams:
            await started.acquire()
        os.kill(server.engines()[0], signal.SIGKILL)
        async with asyncio.timeout(seconds):
            endings = await asyncio.gather(*streams, *wholes)
    return endings


def kill_and_return(server: LiveServer, seconds: float = 20.0) -> None:
    """One kill under load: all that is promised about it, though a busy machine may take longer."""
    (engine,) = server.engines()
    num_back = server.output.count("the engine is back")
    endings = asyncio.run(kill_under(server, 16, seconds))
    killed = time.monotonic()
    assert set(endings) == {"model_loading"}, endings
    for path in ("/health", "/ready"):  # the first look already tells the truth
        assert status(server, path) == 503
    refused = httpx.post(server.url + COMPLETIONS, json=BODY, trust_env=False, timeout=60)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_loading"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers
    with ThreadPoolExecutor(1) as pool:
        retried = pool.submit(retrying, server)
        seconds_until(lambda: status(server, "/ready") == 200)
        down = time.monotonic() - killed
        assert answers(server)
        assert retried.result() == 3
    seconds_until(lambda: server.output.count("the engine is back") == num_back + 1)
    load_seconds = float(re.findall(r"the engine is back after ([\d.]+) s", server.output)[-1])
    assert down < load_seconds + seconds
    assert not is_running(engine)
    assert len(server.children()) == 1


def retrying(server: LiveServer) -> int:
    """How many tokens the official client gets, which waits for `Retry-After` and asks again."""
    client = openai.OpenAI(
        base_url=server.url + "/v1",
        api_key="none",
        max_retries=20,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    with client:
        answer = client.completions.create(model="tiny", prompt="Hello", max_tokens=3)
    assert answer.usage is not None
    return answer.usage.completion_tokens


def test_the_engine_comes_back(survivor):
    """kill -9 under 16 streams: an error or a 503 for each, /health tells the truth, the engine is
    back, and a client that retries never notices; the same descriptors and shared memory as before.
    `make prove` looks at the clock, too."""
    assert answers(survivor)
    seconds_until(lambda: num_connections(survivor.port) == 0)
    before, shared = num_descriptors(survivor.process.pid), shared_memory()
    fingerprint = models(survivor)
    kill_and_return(survivor)
    assert models(survivor) == fingerprint
    seconds_until(lambda: num_descriptors(survivor.process.pid) <= before)
    assert shared_memory() <= shared


def models(server: LiveServer) -> object:
    return httpx.get(server.url + "/v1/models", trust_env=False, timeout=60).json()


def test_processes_that_follow_grammars_end_with_the_engine(survivor):
    """However it ends: it tells them nothing."""
    grammar = {"structured_outputs": {"grammar": "start: /[a-z]+/"}, "min_tokens": 8000}
    body, url = {**BODY, "ignore_eos": False, **grammar, "stream": True}, survivor.url + COMPLETIONS
    with httpx.stream("POST", url, json=body, trust_env=False, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        (engine,) = survivor.engines()
        followers = below(engine)
        assert len(followers) == 2, "what forks, and the one of this answer"
        os.kill(engine, signal.SIGKILL)
    seconds_until(lambda: not any(map(is_running, followers)))


def below(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *below(child))]


def test_the_fifth_death_is_the_servers(survivor):
    """Within a minute, those of the tests above counted where it is not over: a non-zero exit
    status, one line that says why, no process. (How they are counted: `test_supervised_engine.py`.)
    """
    killed: set[int] = set()
    while survivor.process.poll() is None:
        for engine in set(survivor.engines()) - killed:
            os.kill(engine, signal.SIGKILL)
            killed.add(engine)
        assert len(killed) <= 5
        time.sleep(0.005)
    assert survivor.process.returncode == 1
    survivor.kill()
    assert survivor.lines[-1].startswith("thirdeye: The engine died 5 times")
    assert not any(map(is_running, killed))


def test_a_signal_while_the_engine_restarts(server):
    """Nothing runs, so nothing is waited for: status 0, and the half-loaded engine is gone."""
    (old,) = server.start().engines()
    os.kill(old, signal.SIGKILL)
    seconds_until(lambda: server.engines() not in ([old], []))
    (engine,) = server.engines()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(25) == 0
    server.kill()
    assert not is_running(engine)
    assert "Traceback" not in server.output


def test_kill_of_the_server_leaves_nothing(checkpoint):
    """The engine goes in the middle of loading as well; how soon is `make prove`'s. (While it
    computes: `tests/e2e/clients/test_resumed_streams.py`.)"""
    shared = shared_memory()
    command = [*COMMAND, "serve", "--port", "0", checkpoint]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": ROOT}
    with subprocess.Popen(command, text=True, **how) as process:
        assert process.stdout is not None
        assert "loading" in process.stdout.readline()
        (engine,) = (pid for pid in children(process.pid) if runs_module(pid, ENGINE))
        process.kill()
        process.wait()
    seconds_until(lambda: not is_running(engine))
    assert shared_memory() <= shared


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_server(tmp_path, record_property):
    """Serving, or while an engine loads: the engine is gone within 2 s. Two start at once, one for
    each core; they are killed one after the other."""
    tiny_llama(tmp_path)
    shared, times = shared_memory(), []
    args = [str(tmp_path), "--served-model-name", "tiny"]
    with ThreadPoolExecutor(2) as starts:
        for pair in range(10):
            servers = list(starts.map(LiveServer.start, [LiveServer(args), LiveServer(args)]))
            (engine,) = servers[0].engines()
            if pair % 2 == 0:
                os.kill(engine, signal.SIGKILL)
                seconds_until(lambda: servers[0].engines() not in ([engine], []), 20)  # noqa: B023
            for server in servers:
                (engine,) = server.engines()
                server.kill()
                times.append(seconds_until(lambda: not is_running(engine), 10))  # noqa: B023
            assert shared_memory() <= shared
    record_property("slowest_end_s", round(max(times), 3))
    assert max(times) < 2


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_twenty_kills(tmp_path):
    """Each on a server that has died less than five times in its minute."""
    tiny_llama(tmp_path, context=CONTEXT)
    args = [str(tmp_path), *OPTIONS]
    for _ in range(5):
        server = LiveServer(args).start()
        try:
            assert answers(server)
            before, shared = num_descriptors(server.process.pid), shared_memory()
            for _ in range(4):
                kill_and_return(server, seconds=2.0)
            seconds_until(lambda: num_descriptors(server.process.pid) <= before)  # noqa: B023
            assert shared_memory() <= shared
        finally:
            assert server.stop() == 0, server.output
            server.kill()
