"""How fast the default model is served on this machine: start, first token, tokens per second.

    python -m tests.bench.server.bench_serve                  starts `thirdeye serve`, measures it
    python -m tests.bench.server.bench_serve --url http://... measures one that runs already

Closed loop: at concurrency c, c clients send one 100-word prompt after another and read each stream
of 128 tokens to its end. Tokens are counted from `usage`, never from chunks. Rounds are repeated,
the median is taken. The client shares the machine's cores with the server, and is light
(`light.py`). The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time

from tests.bench.server.light import Answer, ask, with_wire
from tests.e2e.live import LiveServer
from thirdeye.clients.loadtest.driver.wire import Wire

ARGS = ["--speculation", "off"]  # greedy text of a small model soon repeats itself: too easy

WORDS = [
    "the",
    "river",
    "runs",
    "past",
    "a",
    "small",
    "town",
    "where",
    "every",
    "morning",
    "people",
    "sell",
    "bread",
    "fruit",
    "and",
    "old",
    "books",
]


def prompt(number: int) -> str:
    """100 words, different from the first word on, so that no prefix is shared."""
    return f"{number} " + " ".join(
        WORDS[(number * 7 + i * (1 + number % 5)) % len(WORDS)] for i in range(99)
    )


async def one(wire: Wire, number: int, max_tokens: int) -> Answer:
    """One streamed completion."""
    body = {
        "model": "smollm2",
        "prompt": prompt(number),
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return await ask(wire, body)


def round_of(
    url: str, concurrency: int, requests: int, max_tokens: int, first: int
) -> dict[str, float]:
    """So many requests, numbered from `first` on, by so many clients."""
    numbers = iter(range(first, first + requests))
    answers: list[Answer] = []

    async def worker(wire: Wire) -> None:
        for number in numbers:  # one after another: that is what a closed loop is
            answer = await one(wire, number, max_tokens)
            answers.append(answer)

    async def workers(wire: Wire) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(worker(wire) for _ in range(concurrency)))
        return time.perf_counter() - started

    cpu = time.process_time()
    seconds = with_wire(url, workers)
    cpu = time.process_time() - cpu
    num_tokens = sum(answer.usage()["completion_tokens"] for answer in answers)
    return {
        "output_tokens_per_second": num_tokens / seconds,
        "ttft_ms_p50": 1000 * statistics.median(answer.seconds_to_first for answer in answers),
        "client_us_per_token": 1e6 * cpu / num_tokens,
    }


def measure(url: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    round_of(url, 1, 1, 8, 0)  # warm up
    table: dict[str, dict[str, float]] = {}
    first = 1
    for concurrency in args.concurrency:
        rounds = []
        for _ in range(args.rounds):
            requests = max(2, concurrency)
            rounds.append(round_of(url, concurrency, requests, args.max_tokens, first))
            first += requests
        table[str(concurrency)] = {
            key: round(statistics.median(r[key] for r in rounds), 1) for key in rounds[0]
        }
        print(f"concurrency {concurrency:3}: {table[str(concurrency)]}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    args = parser.parse_args()
    result: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} x {platform.machine()}",
    }
    if args.url:
        result["concurrency"] = measure(args.url, args)
    else:
        starts = []
        for _ in range(args.rounds - 1):
            server = LiveServer(ARGS).start()
            starts.append(server.seconds_to_ready)
            server.stop()
        server = LiveServer(ARGS).start()
        starts.append(server.seconds_to_ready)
        result["seconds_to_ready"] = round(statistics.median(starts), 2)
        print(f"ready after {result['seconds_to_ready']} s", flush=True)
        try:
            result["concurrency"] = measure(server.url, args)
        finally:
            server.stop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
