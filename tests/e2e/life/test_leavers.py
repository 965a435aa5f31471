"""Clients that leave, at any moment, and clients that never read: nothing of theirs is kept."""

import asyncio
import json
import random
import resource
import socket
import urllib.request
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import HANGS, num_connections, num_descriptors, num_threads, seconds_until

PROMPT = "The quick brown fox jumps over the lazy dog; the dog does not mind at all. " * 6
BODY: dict[str, object] = {"model": "tiny", "prompt": "Hello", "ignore_eos": True}
LONG: dict[str, object] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 200,
    "ignore_eos": True,
    "stream": True,
    "logprobs": True,
    "top_logprobs": 20,
}
WAVE = 10


@pytest.fixture
def server(tiny_server):
    yield tiny_server
    assert "Traceback" not in tiny_server.output, tiny_server.output
    assert "bug in" not in tiny_server.output


def scrape(server: LiveServer) -> dict[str, float]:
    """Every metric by its name and labels."""
    with urllib.request.urlopen(server.url + "/metrics", timeout=HANGS) as answer:
        text = answer.read().decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def is_at_rest(server: LiveServer) -> bool:
    """No request runs or waits, and no block is held but by the cache."""
    gauges = ("thirdeye_num_requests_", "thirdeye_kv_cache_usage_perc")
    return not any(v for name, v in scrape(server).items() if name.startswith(gauges))


def request_bytes(chance: random.Random, max_tokens: int) -> bytes:
    body = {
        **BODY,
        "prompt": PROMPT[: chance.choice([10, 200, len(PROMPT)])],
        "max_tokens": max_tokens,
        "stream": chance.random() < 0.6,
        "n": chance.choice([1, 1, 4]),
        "temperature": 1.0,
    }
    return post(body)


def post(body: dict[str, object], path: str = "/v1/completions") -> bytes:
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


async def leave(port: int, chance: random.Random) -> None:
    """A client gone in the middle of its request, while queued or prefilled, or near the end."""
    max_tokens = chance.choice([2, 20, 80])
    data = request_bytes(chance, max_tokens)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    match chance.choice(["request", "at once", "in a while", "after an event", "near the end"]):
        case "request":
            writer.write(data[: chance.randrange(len(data))])
            await asyncio.sleep(chance.random() * 0.01)
        case "at once":
            writer.write(data)
            await writer.drain()
        case "in a while":
            writer.write(data)
            await asyncio.sleep(chance.random() * 0.3)
        case "after an event":
            writer.write(data)
            await read_events(reader, 1)
        case "near the end":
            writer.write(data)
            await read_events(reader, max_tokens - chance.randrange(2))
    if chance.random() < 0.5:
        writer.transport.abort()  # RST
    writer.close()


async def read_events(reader: asyncio.StreamReader, count: int) -> None:
    """Up to `count` events, or all there is of an answer that has none."""
    try:
        async with asyncio.timeout(20):
            while count:
                line = await reader.readline()
                if not line or line.startswith(b"content-length"):
                    return
                count -= line.startswith(b"data: ")
    except ConnectionError:
        pass


def disconnect(server: LiveServer, waves: int, seed: int) -> list[float]:
    """Seconds to rest after each wave of leavers."""
    port, chance = server.port, random.Random(seed)

    async def wave() -> None:
        await asyncio.gather(*(leave(port, chance) for _ in range(WAVE)))

    times = []
    for _ in range(waves):
        asyncio.run(wave())
        times.append(seconds_until(lambda: is_at_rest(server)))
    return times


def check_leavers(server: LiveServer, waves: int) -> list[float]:
    """All is back after each wave; the seconds that took from its last client's leaving, sorted."""
    (engine,), children = server.engines(), server.children()
    pids = (server.process.pid, engine)
    disconnect(server, 1, seed=1)
    seconds_until(lambda: is_at_rest(server))
    seconds_until(lambda: num_connections(server.port) == 0)
    before = [num_descriptors(pid) for pid in pids]
    times = disconnect(server, waves, seed=2)
    seconds_until(lambda: [num_descriptors(pid) for pid in pids] <= before)
    assert num_threads(server.process.pid) < 50
    assert server.children() == children
    return sorted(times)


def test_clients_that_leave(server):
    """At random moments, streamed or not, one choice or four: blocks, gauges and descriptors are
    back a moment later. (How long a moment: `make prove`, on a machine that does nothing else.)"""
    assert check_leavers(server, 6)[-1] < 5


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_thousand_clients_that_leave(server, record_property):
    """Within one step and 50 ms, which is 100 ms with the look at `/metrics` that tells."""
    times = check_leavers(server, 100)
    record_property("median_s", round(times[len(times) // 2], 3))
    record_property("slowest_s", round(times[-1], 3))
    assert times[-1] < 0.1, times


async def stall(port: int) -> socket.socket:
    """A client of a long stream that never reads.

    Small segments and a small buffer, else the kernel alone would hold the whole answer.
    """
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, post(LONG, "/v1/chat/completions"))
    return sock


async def healthy(client: httpx.AsyncClient) -> None:
    """One answer, tried again while the queue is full."""
    body = {**BODY, "max_tokens": 20}
    async with asyncio.timeout(30):
        while (await client.post("/v1/completions", json=body)).status_code == 429:
            await asyncio.sleep(0.1)


def test_slow_readers(server):
    """32 clients that never read hold up none of 8 that do, and are closed at the send timeout:
    descriptors and blocks come back though the clients never hang up."""
    seconds_until(lambda: is_at_rest(server))
    before = num_descriptors(server.process.pid)
    port = server.port

    async def main() -> None:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
            socks = [await stall(port) for _ in range(32)]
            await asyncio.gather(*(healthy(client) for _ in range(8)))
        await asyncio.to_thread(
            seconds_until, lambda: num_descriptors(server.process.pid) <= before, 20
        )
        assert is_at_rest(server)
        for sock in socks:
            sock.close()

    asyncio.run(main())
    assert server.output.count("stalled reader") > 0


def test_no_descriptor_for_another_connection(server):
    """Who cannot be taken in is turned away and waits for nothing; a stream that runs goes on, and
    the server is as ever once others have left."""
    pid, port = server.process.pid, server.port
    long = {**BODY, "max_tokens": 2000, "stream": True}
    with socket.create_connection(("127.0.0.1", port), timeout=200) as stream, ExitStack() as open_:
        stream.sendall(post(long))
        events = stream.makefile("rb")
        while not next(events).startswith(b"data: "):
            pass
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        few = num_descriptors(pid) + 4
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        try:
            others = [
                open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=200))
                for _ in range(20)
            ]
            last = others[-1]
            with suppress(ConnectionError):
                assert last.recv(1) == b"", "it is told that there is no room"
            assert num_descriptors(pid) <= few
            assert any(line.startswith(b"data: [DONE]") for line in events)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    seconds_until(lambda: is_at_rest(server))
