"""What one model of a server feels of another: gaps and answers of B while A is flooded or loaded.

    python -m tests.bench.server.bench_several --model smollm2 --rounds 5

One server has both, with a thread each. A client reads streams of B, one after the other, while A
is left alone, answers one client, is flooded with more requests than it takes (who is refused comes
back after a second), or is put to sleep and woken up over and over; the kinds take turns. Those
other clients are a process of their own. Printed are the median and the 99th percentile of B's gaps
between tokens and of its whole answers, in milliseconds, their ratio to B beside a quiet A, and of
a token of B what its engine and the API computed and how long the two had to wait for a core: on a
machine with a core for each process that is next to nothing. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from tests.bench.server.light import Answer, with_wire
from tests.e2e.live import LiveServer
from thirdeye.clients.loadtest.driver.wire import Wire

KINDS = {"quiet": 0, "one": 1, "flood": 128, "load": 0}  # how many clients A has
ENGINE = b"thirdeye.server.load.engine_main"


def body(model: str, max_tokens: int, **more: object) -> bytes:
    text = "The history of the city begins with"
    asked = {"model": model, "prompt": text, "max_tokens": max_tokens, "ignore_eos": True}
    return msgspec.json.encode({**asked, "stream": True, **more})


class Stamped(Answer):
    """When each piece came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def body(self, data: bytes, now: float) -> None:
        super().body(data, now)
        self.times += [now] * data.count(b'"choices"')


async def read(wire: Wire, max_tokens: int) -> tuple[list[float], float]:
    """Milliseconds between B's tokens, and of the whole answer."""
    answer = Stamped()
    await wire.post("completions", body("B", max_tokens, seed=1), answer)
    answer.whole()
    gaps = [1000 * (b - a) for a, b in zip(answer.times, answer.times[1:], strict=False)]
    return gaps[1:], 1000 * (answer.ended_at - answer.sent_at)


async def flood(wire: Wire, number: int) -> None:
    async def one() -> None:
        while True:
            answer = Answer()
            await wire.post("completions", body("A", 64), answer)
            try:
                answer.whole()
            except RuntimeError:  # refused
                await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(number)))


def reload(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
        while True:
            client.post("/sleep?model=A")
            client.post("/wake_up?model=A")


@contextmanager
def beside(url: str, kind: str) -> Iterator[None]:
    """The others' work, over and over, in a process of its own."""
    if kind == "quiet":
        yield
        return
    module = "tests.bench.server.bench_several"
    with subprocess.Popen([sys.executable, "-m", module, "--beside", kind, "--url", url]) as other:
        try:
            time.sleep(1)  # it has begun
            yield
        finally:
            other.kill()


def spent(pids: dict[str, int]) -> Counter[str]:
    """Milliseconds, of all threads: computed, and waited for a core."""
    found: Counter[str] = Counter()
    for name, pid in pids.items():
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            computed, waited, _ = (int(word) / 1e6 for word in file.read_text().split())
            found[f"{name} computed"] += computed
            found[f"{name} waited"] += waited
    return found


def engines(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = int(file.read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and ENGINE in file.with_name("cmdline").read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def summary(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(statistics.median(values), 2), "p99": round(cuts[98], 2)}


def measure(url: str, pids: dict[str, int], args: argparse.Namespace) -> dict[str, object]:
    gaps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    wholes: dict[str, list[float]] = {kind: [] for kind in KINDS}
    used: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    async def answers(wire: Wire) -> list[tuple[list[float], float]]:
        return [await read(wire, args.max_tokens) for _ in range(args.answers)]

    for _ in range(args.rounds):
        for kind in KINDS:
            with beside(url, kind):
                before = spent(pids)
                for between, whole in with_wire(url, answers):
                    gaps[kind] += between
                    wholes[kind].append(whole)
                used[kind] += spent(pids) - before
    found = {
        kind: {"gap_ms": summary(gaps[kind]), "answer_ms": summary(wholes[kind])} for kind in KINDS
    }
    tokens = args.rounds * args.answers * args.max_tokens
    for kind in KINDS:
        found[kind]["ms_a_token"] = {what: round(ms / tokens, 3) for what, ms in used[kind].items()}
    ratios = {
        kind: {
            f"{what}_{cut}": round(found[kind][what][cut] / found["quiet"][what][cut], 3)
            for what in ("gap_ms", "answer_ms")
            for cut in ("p50", "p99")
        }
        for kind in KINDS
    }
    return {"b": found, "ratio_to_quiet": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=4, help="of B, in each round of a kind")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--memory", default="6")
    parser.add_argument("--beside", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.beside == "load":
        reload(args.url)
    if args.beside:
        with_wire(args.url, lambda wire: flood(wire, KINDS[args.beside]))
    options = ["--preload", "B", "--keep-alive", "-1", "--threads", "1", "--memory", args.memory]
    models = [f"{name}={args.model}" for name in "BA"]
    server = LiveServer([*models, *options, "--yes"]).start()
    try:
        (of_b,) = engines(server.process.pid)
        with_wire(server.url, lambda wire: read(wire, args.max_tokens))
        httpx.post(f"{server.url}/wake_up?model=A", timeout=300, trust_env=False)
        found = measure(server.url, {"engine": of_b, "api": server.process.pid}, args)
    finally:
        server.stop()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"machine": machine, **found}))


if __name__ == "__main__":
    main()
