"""What a token and a request cost on their way through a cluster, against the same server directly.

python -m tests.bench.cluster.bench_cluster URL --state-dir DIRECTORY --direct URL --pid PID

Both run already: `thirdeye cluster up --replicas 2` with this folder, and `thirdeye serve` of the
same model. The same streams go to one and the other in turn; what is counted is processor time, of
all threads, over the pieces of the answers that came. Clients are not counted. In the cluster all
streams are of one session, so one replica has them: what the other takes in the same seconds is
what a replica takes for itself (Ray's threads), told apart and taken off. The picker's share is a
request's, of many short ones.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from thirdeye.server.cluster.ray_head import command_of, pids_of

REPLICA, PICKER = "ray::ServeReplica:default:thirdeye", "ray::ServeReplica:default:picker"


def seconds_of(pids: list[int]) -> dict[int, float]:
    """Processor time of their threads, to the nanosecond."""
    return {
        pid: sum(
            int(file.read_text().split()[0])
            for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        / 1e9
        for pid in pids
    }


def pids_called(folder: Path, mark: str) -> list[int]:
    return [pid for pid in pids_of(folder) if mark in command_of(pid)[0]]


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
    headers = {"x-session-id": "bench"}
    path = f"{url}/v1/chat/completions"
    async with client.stream("POST", path, json=body, headers=headers) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            pieces += line.startswith("data: {")
    return pieces


async def load(url: str, at_once: int, requests: int, tokens: int) -> int:
    """The pieces of all answers."""
    turns = asyncio.Semaphore(at_once)

    async def one(i: int) -> int:
        async with turns:
            return await stream(client, url, i, tokens)

    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        return sum(await asyncio.gather(*(one(i) for i in range(requests))))


def spent(url: str, pids: list[int], *loaded: int) -> tuple[int, float, dict[int, float]]:
    """Pieces, seconds by the clock, and of each process milliseconds of processor time."""
    before, began = seconds_of(pids), time.monotonic()
    pieces = asyncio.run(load(url, *loaded))
    after, seconds = seconds_of(pids), time.monotonic() - began
    return pieces, seconds, {pid: 1000 * (after[pid] - before[pid]) for pid in pids}


@dataclass(frozen=True)
class Load:
    streams: int = 8  # at once
    tokens: int = 1024  # of each
    requests: int = 400  # short ones, for the picker


def measure(url: str, folder: Path, direct: str, pid: int, asked: Load) -> Counter[str]:
    """One round; `pid` is the direct server's."""
    replicas = pids_called(folder, REPLICA)
    haproxy, picker = pids_called(folder, "haproxy"), pids_called(folder, PICKER)
    shape = (asked.streams, asked.streams, asked.tokens)
    found: Counter[str] = Counter()
    pieces, _, used = spent(direct, [pid], *shape)
    found["direct, us a token"] = 1000 * used[pid] / pieces
    pieces, seconds, used = spent(url, replicas + haproxy, *shape)
    idle, busy = sorted(used[pid] for pid in replicas)
    found["replica, us a token"] = 1000 * (busy - idle) / pieces
    found["haproxy, us a token"] = 1000 * sum(used[pid] for pid in haproxy) / pieces
    found["a replica by itself, ms a second"] = idle / seconds
    before = seconds_of(picker)
    time.sleep(5)
    by_itself = sum(seconds_of(picker).values()) - sum(before.values())
    _, seconds, used = spent(url, picker, asked.streams, asked.requests, 1)
    of_requests = sum(used.values()) - 1000 * by_itself / 5 * seconds
    found["picker, us a request"] = 1000 * of_requests / asked.requests
    front = found["replica, us a token"] + found["haproxy, us a token"]
    front += found["picker, us a request"] / 64
    found["times direct, answers of 64 tokens"] = front / found["direct, us a token"]
    return found


def middle(rounds: list[Counter[str]]) -> dict[str, float]:
    return {
        name: round(sorted(found[name] for found in rounds)[len(rounds) // 2], 2)
        for name in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--direct", required=True)
    parser.add_argument("--pid", type=int, required=True, help="of the direct server")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=Load.streams)
    parser.add_argument("--tokens", type=int, default=Load.tokens)
    parser.add_argument("--requests", type=int, default=Load.requests)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asked = Load(given.streams, given.tokens, given.requests)
    rounds = []
    for _ in range(given.rounds):
        rounds.append(measure(given.url, given.state_dir, given.direct, given.pid, asked))
        print(middle(rounds[-1:]), flush=True)
    print(json.dumps(middle(rounds)))


if __name__ == "__main__":
    main()
