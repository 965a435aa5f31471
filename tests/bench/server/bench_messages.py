"""What the border between engine and API carries: steps and tokens per second over the pipe.

    python -m tests.bench.server.bench_messages

A process of its own packs and sends `Step` messages as the engine does, one a step for all requests
together; this one reads and decodes them on an event loop as the API does, and that is all either
does. The CPU time of the reading side is what a step costs the API before anything is made of it.
The last line is JSON.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.types import StepOutput
from thirdeye.server.engine.process.frames import FrameReader, pack_frame
from thirdeye.server.engine.process.messages import FromEngine, Step

ROOT = Path(__file__).parents[3]
SECONDS = 3.0
SIZES = (1, 32, 256)


def step_of(sequence: int, num_outputs: int) -> Step:
    """One new token for each of so many requests."""
    outputs = [
        StepOutput(request_id=f"chatcmpl-{i:032x}-0", token_ids=[sequence % 50_000])
        for i in range(num_outputs)
    ]
    return Step(sequence=sequence, outputs=outputs, stats=EngineStats(steps_total=sequence))


def send(sock: socket.socket, num_outputs: int) -> None:
    """The engine's side, until the other hangs up."""
    sequence = 0
    try:
        while True:
            sock.sendall(pack_frame(step_of(sequence, num_outputs)))
            sequence += 1
    except ConnectionError:
        pass


async def receive(sock: socket.socket) -> dict[str, float]:
    """The API's side, for a while."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    frames = FrameReader[FromEngine](msgspec.msgpack.Decoder(FromEngine))
    first = await frames.read_async(reader)
    assert isinstance(first, Step)
    started, used, num_steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < SECONDS:
        step = await frames.read_async(reader)
        num_steps += 1
        assert isinstance(step, Step)
        assert step.sequence == num_steps, "a message was lost"
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    writer.close()
    num_outputs = len(first.outputs)
    return {
        "steps_per_second": round(num_steps / seconds),
        "tokens_per_second": round(num_steps * num_outputs / seconds),
        "reader_us_per_step": round(cpu / num_steps * 1e6, 1),
        "reader_us_per_token": round(cpu / num_steps / num_outputs * 1e6, 2),
    }


def measure(num_outputs: int) -> dict[str, float]:
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [
            "-m",
            "tests.bench.server.bench_messages",
            str(theirs.fileno()),
            str(num_outputs),
        ]
        engine = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, pass_fds=[theirs.fileno()]
        )
    with engine:
        return asyncio.run(receive(ours))


def main() -> None:
    results = {str(num_outputs): measure(num_outputs) for num_outputs in SIZES}
    for num_outputs, result in results.items():
        print(f"{num_outputs:>4} requests a step: {result}")
    print(json.dumps({"benchmark": "messages", "requests_per_step": results}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        send(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    else:
        main()
