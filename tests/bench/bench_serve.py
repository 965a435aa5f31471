"""How fast the default model is served on this machine: start, first token, tokens per second.

    python tests/bench/bench_serve.py                       starts `thirdeye serve` and measures it
    python tests/bench/bench_serve.py --url http://...      measures a server that runs already

Closed loop: at concurrency c, c clients send one 100-word prompt after another and read each stream
of 128 tokens to its end. Tokens are counted from `usage`, never from chunks. Rounds are repeated,
the median is taken. The client shares the machine's cores with the server. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.e2e.live import LiveServer

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


async def one(client: httpx.AsyncClient, number: int, max_tokens: int) -> tuple[float, float, int]:
    """One streamed completion -> (seconds to the first text, seconds in all, tokens)."""
    body = {
        "model": "smollm2",
        "prompt": prompt(number),
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started, first, tokens = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk["choices"] and not first:
                first = time.perf_counter() - started
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    return first, time.perf_counter() - started, tokens


async def round_of(
    url: str, concurrency: int, requests: int, max_tokens: int, first: int
) -> dict[str, float]:
    numbers = iter(range(first, first + requests))
    results: list[tuple[float, float, int]] = []

    async def worker(client: httpx.AsyncClient) -> None:
        for number in numbers:  # one after another: that is what a closed loop is
            result = await one(client, number, max_tokens)
            results.append(result)

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(
        base_url=url, timeout=None, trust_env=False, limits=limits
    ) as client:
        started = time.perf_counter()
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))
        seconds = time.perf_counter() - started
    return {
        "output_tokens_per_second": sum(tokens for _, _, tokens in results) / seconds,
        "ttft_ms_p50": 1000 * statistics.median(ttft for ttft, _, _ in results),
    }


def measure(url: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    asyncio.run(round_of(url, 1, 1, 8, 0))  # warm up
    table: dict[str, dict[str, float]] = {}
    first = 1
    for concurrency in args.concurrency:
        rounds = []
        for _ in range(args.rounds):
            requests = max(2, concurrency)
            rounds.append(asyncio.run(round_of(url, concurrency, requests, args.max_tokens, first)))
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
