"""What a token costs on its way through a cluster, against the same server asked directly.

python -m tests.bench.cluster.bench_cluster URL --state-dir DIRECTORY --direct URL --pid PID

Both run already: `thirdeye cluster up` with this folder, and `thirdeye serve` of the same model.
The same streams go to one and the other in turn; what is counted is processor time, of all threads,
by what a process does, over the pieces of the answers that came. Clients are not counted. What
a process takes without a request, in as many seconds, is told by itself and taken off.
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from pathlib import Path

import httpx

from thirdeye.server.cluster.ray_head import pids_of

ROLES = {  # what a process calls itself -> what it does here
    "ray::ServeReplica:default:thirdeye": "replica",
    "ray::ServeReplica:default:picker": "picker",
    "haproxy": "haproxy",
    "engine_main": "engine",
    "ray::ServeController": "controller",
}
IDLE_SECONDS = 15.0
FRONT = ("replica", "picker", "haproxy")  # what the API process is without a cluster


def seconds_of(pid: int) -> float:
    """Processor time of its threads, to the nanosecond."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def role_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "other"
    return next((role for mark, role in ROLES.items() if mark in words), "other")


def children_of(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def spent(pids: dict[int, str]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for pid, role in pids.items():
        try:
            found[role] += seconds_of(pid)
        except OSError:
            found[role] += 0.0
    return found


async def stream(client: httpx.AsyncClient, url: str, number: int, tokens: int) -> int:
    """How many pieces came."""
    body = {
        "messages": [{"role": "user", "content": f"Write a story about number {number}."}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    pieces = 0
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            pieces += line.startswith("data: {")
    return pieces


async def load(url: str, streams: int, tokens: int) -> int:
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        return sum(await asyncio.gather(*(stream(client, url, i, tokens) for i in range(streams))))


def measure(
    url: str, pids: dict[int, str], streams: int, tokens: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of processor time a piece, and milliseconds of it a second without a request, by
    role."""
    before = spent(pids)
    time.sleep(IDLE_SECONDS)
    began, loaded = time.monotonic(), spent(pids)
    idle = {role: (loaded[role] - before[role]) / IDLE_SECONDS for role in loaded}
    pieces = asyncio.run(load(url, streams, tokens))
    seconds, after = time.monotonic() - began, spent(pids)
    a_piece = {
        role: 1000 * (after[role] - loaded[role] - idle[role] * seconds) / pieces for role in after
    }
    return a_piece, {role: 1000 * value for role, value in idle.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--direct", required=True)
    parser.add_argument("--pid", type=int, required=True, help="of the direct server")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    of_cluster = {pid: role_of(pid) for pid in pids_of(options.state_dir)}
    of_direct = dict.fromkeys(children_of(options.pid), "engine") | {options.pid: "replica"}
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds):
        direct, _ = measure(options.direct, of_direct, options.streams, options.tokens)
        cluster, idle = measure(options.url, of_cluster, options.streams, options.tokens)
        front = sum(cluster.get(role, 0.0) for role in FRONT)
        found = {f"direct {role}": value for role, value in direct.items()} | cluster
        found |= {f"idle {role}": value for role, value in idle.items()}
        rounds.append({**found, "front": front, "times direct": front / direct["replica"]})
        print({role: round(value, 4) for role, value in rounds[-1].items()}, flush=True)
    middle = {
        role: sorted(found.get(role, 0.0) for found in rounds)[len(rounds) // 2]
        for role in rounds[-1]
    }
    print(json.dumps({role: round(value, 4) for role, value in middle.items()}))


if __name__ == "__main__":
    main()
