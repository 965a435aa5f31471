"""What one model of a server feels of another: gaps and answers of B while A is flooded or loaded.

    python -m tests.bench.server.bench_several --model smollm2 --rounds 5

One server has both, with a thread each. A client reads streams of B, one after the other, while A
is left alone, flooded with more requests than it takes, or put to sleep and woken up over and over;
the kinds take turns. Printed are the median and the 99th percentile of B's gaps between tokens and
of its whole answers, in milliseconds, and their ratio to B beside a quiet A. The last line is
JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx

from tests.e2e.live import LiveServer

PATH = "/v1/completions"


def body(model: str, max_tokens: int, **more: object) -> dict[str, object]:
    text = "The history of the city begins with"
    return {"model": model, "prompt": text, "max_tokens": max_tokens, "ignore_eos": True, **more}


def answer(client: httpx.Client, max_tokens: int) -> tuple[list[float], float]:
    """Milliseconds between B's tokens, and of the whole answer."""
    began = last = time.perf_counter()
    gaps = []
    with client.stream("POST", PATH, json=body("B", max_tokens, stream=True, seed=1)) as found:
        if found.status_code != 200:
            raise RuntimeError(found.read().decode())
        for line in found.iter_lines():
            if line.startswith("data: {"):
                now = time.perf_counter()
                gaps.append(1000 * (now - last))
                last = now
    return gaps[1:], 1000 * (time.perf_counter() - began)


def flood(client: httpx.Client) -> None:
    client.post(PATH, json=body("A", 64))


def reload(client: httpx.Client) -> None:
    client.post("/sleep?model=A")
    client.post("/wake_up?model=A")


@contextmanager
def beside(url: str, work: Callable[[httpx.Client], None], num_threads: int) -> Iterator[None]:
    """The work, over and over, in so many threads."""
    stop = Event()

    def run() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
            while not stop.is_set():
                work(client)

    threads = [Thread(target=run) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def summary(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(statistics.median(values), 2), "p99": round(cuts[98], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=4, help="of B, in each round of a kind")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--flood", type=int, default=128, help="clients of A")
    parser.add_argument("--memory", default="6")
    args = parser.parse_args()
    kinds: dict[str, tuple[Callable[[httpx.Client], None], int]] = {
        "quiet": (flood, 0),
        "flood": (flood, args.flood),
        "load": (reload, 1),
    }
    options = ["--preload", "A", "--preload", "B", "--keep-alive", "-1", "--threads", "1"]
    models = [f"{name}={args.model}" for name in "AB"]
    gaps: dict[str, list[float]] = {kind: [] for kind in kinds}
    wholes: dict[str, list[float]] = {kind: [] for kind in kinds}
    server = LiveServer([*models, *options, "--memory", args.memory, "--yes"]).start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=300) as client:
            answer(client, args.max_tokens)
            for _ in range(args.rounds):
                for kind, (work, num_threads) in kinds.items():
                    with beside(server.url, work, num_threads):
                        for _ in range(args.answers):
                            between, whole = answer(client, args.max_tokens)
                            gaps[kind] += between
                            wholes[kind].append(whole)
    finally:
        server.stop()
    found = {
        kind: {"gap_ms": summary(gaps[kind]), "answer_ms": summary(wholes[kind])} for kind in kinds
    }
    ratios = {
        kind: {
            f"{what}_{cut}": round(found[kind][what][cut] / found["quiet"][what][cut], 3)
            for what in ("gap_ms", "answer_ms")
            for cut in ("p50", "p99")
        }
        for kind in kinds
    }
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"machine": machine, "b": found, "ratio_to_quiet": ratios}))


if __name__ == "__main__":
    main()
