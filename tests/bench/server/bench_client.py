"""What the load tester itself costs: microseconds of its CPU per event, at many streams at once.

    python -m tests.bench.server.bench_client [--streams 512] [--events 100] [--httpx]

A server in another process steps like an engine: every 50 ms it writes one event of an ordinary
size to every stream. The client is the load tester as it is; `--httpx` reads the same streams by
httpx and the same parser, which is what a client costs that does not read the socket itself.
Promised: under 25 us per event at 512 streams. The last line is JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import time
from multiprocessing.connection import Connection

import httpx

from tests.clients.stub import DONE, event
from thirdeye.clients.loadtest.driver.reading import Reading
from thirdeye.clients.loadtest.load_settings import LoadSettings
from thirdeye.clients.loadtest.run import event_loop, run
from thirdeye.clients.loadtest.workload.prompts import Length, Mix
from thirdeye.clients.target import Target

STEP = 0.05  # seconds
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def token_event() -> bytes:
    choice = {"index": 0, "delta": {"content": " hello"}, "logprobs": None, "finish_reason": None}
    body = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1795331781,
        "model": "smollm2",
        "choices": [choice],
        "usage": None,
    }
    return chunked(event(body))


def serve(port: Connection, num_events: int) -> None:
    asyncio.run(_serve(port, num_events))


async def _serve(port: Connection, num_events: int) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": num_events, "total_tokens": 9 + num_events}
    token, end = token_event(), chunked(event({"choices": [], "usage": usage}) + DONE)
    streams: dict[asyncio.StreamWriter, int] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                top = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(top.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(HEAD)
            streams[writer] = num_events

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    port.send(server.sockets[0].getsockname()[1])
    due = time.perf_counter()
    while True:
        due = max(due + STEP, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        for writer, left in list(streams.items()):
            writer.write(token)
            streams[writer] = left - 1
            if left == 1:
                writer.write(end + b"0\r\n\r\n")
                del streams[writer]


async def by_httpx(target: Target, num_streams: int) -> dict[str, float]:
    limits = httpx.Limits(max_connections=num_streams)
    readings: list[Reading] = []

    async def one(client: httpx.AsyncClient) -> None:
        reading = Reading()
        reading.head(200, {})
        readings.append(reading)
        url = target.url("chat/completions")
        async with client.stream("POST", url, json={"stream": True}) as response:
            async for data in response.aiter_bytes():
                reading.body(data, time.perf_counter())

    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
        start = time.process_time()
        await asyncio.gather(*(one(client) for _ in range(num_streams)))
        cpu = time.process_time() - start
    return {"cpu_us_per_event": round(1e6 * cpu / sum(r.num_events for r in readings), 2)}


async def by_load_tester(target: Target, num_streams: int) -> dict[str, float]:
    settings = LoadSettings(
        model="m",
        concurrency=(num_streams,),
        num_requests=num_streams,
        warmup=0,
        mix=Mix(prompt=Length(20)),
    )
    (point,) = (await run(target, settings))["points"]
    assert point["whole"] == num_streams, point["errors"]
    return {
        "cpu_us_per_event": point["client"]["cpu_us_per_event"],
        "cpu_share": point["client"]["cpu_share"],
        "events_per_second": round(point["output_tokens_per_second"]),
        "itl_p50_ms": point["itl_ms"]["p50"],
        "itl_p99_ms": point["itl_ms"]["p99"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--httpx", action="store_true")
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(theirs, args.events), daemon=True)
    server.start()
    target = Target.find(f"http://127.0.0.1:{ours.recv()}")
    try:
        measure = by_httpx if args.httpx else by_load_tester
        with asyncio.Runner(loop_factory=event_loop) as runner:
            measured = runner.run(measure(target, args.streams))
    finally:
        server.terminate()
        server.join()
    machine = f"{os.cpu_count()} x {platform.machine()}"
    shown = {"benchmark": "client", "streams": args.streams, "by": measure.__name__}
    print(json.dumps({**shown, "machine": machine, **measured}))


if __name__ == "__main__":
    main()
