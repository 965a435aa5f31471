"""What a server costs while nobody asks for anything, and what it keeps of those who did."""

import json
import time

import httpx
import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import cpu_seconds, resident_bytes

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tiny_server):
    ask(tiny_server, 5)
    return tiny_server


def processes(server: LiveServer) -> list[int]:
    return [server.process.pid, *server.children()]


def ask(server: LiveServer, count: int) -> None:
    """Requests of all kinds, one in five left in the middle."""
    url = server.url + "/v1/completions"
    with httpx.Client(trust_env=False, timeout=30) as client:
        for i in range(count):
            body = {"model": "tiny", "prompt": f"{i} lazy dogs", "max_tokens": 8, "n": 1 + i % 2}
            if i % 5:
                assert client.post(url, json=body).status_code == 200
                continue
            with client.stream("POST", url, json={**body, "stream": True}) as answer:
                next(answer.iter_lines())


def idle_share(server: LiveServer, seconds: float) -> float:
    """The share of one core that both processes use together."""
    before = sum(cpu_seconds(pid) for pid in processes(server))
    time.sleep(seconds)
    return (sum(cpu_seconds(pid) for pid in processes(server)) - before) / seconds


def test_idle_costs_nothing(server):
    """No loop turns while nothing is asked: under 1 % of a core, on a machine that may be busy.

    In one of the next seconds: the first may hold the end of what was asked before.
    """
    assert any(idle_share(server, 3) < 0.01 for _ in range(10))


@pytest.mark.prove
def test_idle_costs_a_five_hundredth_of_a_core(server):
    time.sleep(0.5)
    share = idle_share(server, 60)
    print(json.dumps({"idle_share_of_a_core": round(share, 5)}))
    assert share < 0.002


def growth(server: LiveServer, count: int, warm: int = 200) -> list[float]:
    """MiB that each process has grown by over `count` requests, after `warm` ones."""
    ask(server, warm)
    before = [resident_bytes(pid) for pid in processes(server)]
    ask(server, count)
    after = [resident_bytes(pid) for pid in processes(server)]
    return [(b - a) / MIB for a, b in zip(before, after, strict=True)]


def test_memory_does_not_grow(server):
    """100 requests more are no more memory."""
    grown = growth(server, 100, warm=50)
    assert max(grown) < 4, grown


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_a_soak(server):
    """10,000 requests: less than 1 MiB for each 1,000 in either process."""
    grown = growth(server, 10_000)
    print(json.dumps({"requests": 10_000, "grown_mib": [round(g, 2) for g in grown]}))
    assert max(grown) < 10
