"""The server process: signals drain it, a taken port is explained, one socket listens."""

import asyncio
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.http.drain_server import process
from tests.api.support import CHAT, client_of, create_app, eventually, fake_engine, ready_state
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.transport.server import CannotListen, bind, serve, url_of

CHAT_URL = "/v1/chat/completions"
STREAM = CHAT | {"stream": True}


def stream(url: str) -> str:
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.post(url + CHAT_URL, json=STREAM).text


def whole(url: str) -> int:
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.post(url + CHAT_URL, json=CHAT).status_code


def wait_for_running(url: str, count: int) -> None:
    wanted = f'thirdeye_num_requests_running{{model_name="tiny"}} {count}.0'
    eventually(lambda: wanted in httpx.get(url + "/metrics", trust_env=False).text)


def wait_for_draining(url: str) -> None:
    eventually(lambda: httpx.get(url + "/health", trust_env=False).status_code == 503)


def test_sigterm_lets_answers_end_and_refuses_new_ones() -> None:
    """Streams get every token and [DONE]; health and new requests 503 meanwhile; exit code 0."""
    with process("shut") as (server, url), ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(stream, url) for _ in range(4)]
        wholes = [pool.submit(whole, url) for _ in range(2)]
        wait_for_running(url, 6)
        server.send_signal(signal.SIGTERM)
        wait_for_draining(url)
        refused = httpx.post(url + CHAT_URL, json=CHAT, trust_env=False)
        server.send_signal(signal.SIGUSR1)
        for answer in streams:
            text = answer.result()
            assert text.count('"content":"x"') == 20
            assert text.endswith("data: [DONE]\n\n")
            assert text.count("[DONE]") == 1
        assert [answer.result() for answer in wholes] == [200, 200]
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_draining"
        assert refused.headers["retry-after"]
        assert refused.headers["connection"] == "close"
        assert server.wait(20) == 0
        assert "Traceback" not in server.errors.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_leaves_at_once(number: signal.Signals) -> None:
    with process() as (server, url):
        assert stream(url).endswith("data: [DONE]\n\n")
        server.send_signal(number)
        assert server.wait(20) == 0  # a third of the drain's time


def test_with_a_delay_an_idle_server_says_so_before_it_refuses() -> None:
    """Whoever routes by /ready sends nothing more; until then all is answered. A second signal ends
    the delay."""
    with process(drain_delay=3600) as (server, url):
        server.send_signal(signal.SIGTERM)
        eventually(lambda: httpx.get(url + "/ready", trust_env=False).status_code == 503)
        assert httpx.get(url + "/health", trust_env=False).status_code == 200
        assert stream(url).endswith("data: [DONE]\n\n")
        assert whole(url) == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_the_delay_has_an_end() -> None:
    with process(drain_delay=0.2) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_a_timeline_that_is_watched_does_not_keep_the_server() -> None:
    with (
        process() as (server, url),
        httpx.stream("GET", url + "/v1/timeline", trust_env=False, timeout=5) as watched,
    ):
        assert watched.status_code == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_a_second_signal_ends_everything_at_once() -> None:
    with process("shut") as (server, url), ThreadPoolExecutor() as pool:
        answer = pool.submit(stream, url)
        wait_for_running(url, 1)
        server.send_signal(signal.SIGTERM)
        wait_for_draining(url)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert '"code":"server_draining"' in answer.result()


def test_the_drain_has_an_end() -> None:
    """An endless stream does not keep the process: it ends with an error event and [DONE]."""
    with (
        process("endless", drain_seconds=1) as (server, url),
        httpx.stream("POST", url + CHAT_URL, json=STREAM, trust_env=False, timeout=20) as answer,
    ):
        lines = answer.iter_lines()
        first = next(lines)  # it has begun: what comes now must be an event
        server.send_signal(signal.SIGTERM)
        text = "\n".join([first, *lines])
        assert server.wait(20) == 0
        assert '"code":"server_draining"' in text
        assert text.rstrip().endswith("data: [DONE]")


def test_a_taken_port_is_explained() -> None:
    """The error names the flag that helps, before anything has started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match="--port"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_explained() -> None:
    """Another port would not help; 192.0.2.1 belongs to documentation and to no machine."""
    with pytest.raises(CannotListen, match="--host"):
        bind("192.0.2.1", 0)


def test_the_model_loads_beside_the_server() -> None:
    """503 first, 200 once it is there: the page need not wait for the weights."""
    state, seen = ServerState(), []
    sock = bind("127.0.0.1", 0)

    async def load() -> None:
        async with httpx.AsyncClient(base_url=url_of(sock), trust_env=False) as client:
            seen.append((await client.get("/ready")).status_code)
            engine = fake_engine()
            model = ready_state(engine).model
            assert model is not None
            state.ready(engine, model)
            seen.append((await client.get("/ready")).status_code)
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(serve(create_app(state), state, sock, load=load))
    assert seen == [503, 200]


def test_a_server_that_ended_cuts_no_stream_of_another() -> None:
    """In one process, as a test's or whoever holds many replicas."""

    async def leave() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    other, state = create_app(ready_state(fake_engine())), ready_state(fake_engine())
    asyncio.run(serve(create_app(state), state, bind("127.0.0.1", 0), load=leave))

    async def ask() -> str:
        async with client_of(other) as client:
            return (await client.post(CHAT_URL, json=STREAM)).text

    assert asyncio.run(ask()).endswith("data: [DONE]\n\n")


def test_a_model_that_cannot_load_stops_the_server() -> None:
    """The reason comes out, for the command to print; nothing hangs."""

    async def load() -> None:
        raise FileNotFoundError("no such model")

    state = ServerState()
    with pytest.raises(FileNotFoundError, match="no such model"):
        asyncio.run(serve(create_app(state), state, bind("127.0.0.1", 0), load=load))


def test_the_real_port_is_reported() -> None:
    with bind("127.0.0.1", 0) as sock:
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert not url_of(sock).endswith(":0")


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads Linux's socket table")
def test_exactly_one_socket_listens_on_loopback() -> None:
    """Not on all interfaces, and nothing beside it."""
    with process() as (server, url):
        stream(url)
        listening = listening_sockets(server.pid)
        port = int(url.rpartition(":")[2])
        assert listening == [("0100007F", port)]


def listening_sockets(pid: int) -> list[tuple[str, int]]:
    """(hex address, port) of a process's listening sockets."""
    mine = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:  # closed since the folder was listed
            continue
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = line.split()[1], line.split()[3], line.split()[9]
            if state == "0A" and inode in mine:
                address, port = local.split(":")
                found.append((address, int(port, 16)))
    return found
