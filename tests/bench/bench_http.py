"""What a streamed token costs the API process, in microseconds of CPU: the layers above the engine.

    python -m tests.bench.bench_http [--streams 32] [--tokens 400] [--rounds 5]

A fake engine gives every stream a token each few milliseconds, as a real one does in steps; real
HTTP through the protocol that serves; the client is another process. The fake engine's own time is
measured alone and taken off. What the system takes for one write to a waiting reader stands
beside it: no server can be below that while each token is written at once. CPU time, so a busy
machine troubles it little. The last line is JSON.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time

from server.engine.fake import FakeEngine, fake_info
from server.engine.types import Request, SamplingParams
from server.guard import guarded
from tests.api.support import VOCAB_SIZE, live, ready_state

PERIOD = 0.01  # seconds between the tokens of a stream
CLIENT = """
import asyncio, json, sys
host, port, streams, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
body = json.dumps({"model": "tiny", "prompt": "Hi", "max_tokens": tokens, "stream": True}).encode()
head = "POST /v1/completions HTTP/1.1\\r\\nHost: localhost\\r\\n"
head += "Content-Type: application/json\\r\\nConnection: close\\r\\n"
head += f"Content-Length: {len(body)}\\r\\n\\r\\n"
async def one():
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + body)
    answer = await reader.read(-1)
    assert b"[DONE]" in answer, answer[:500]
    writer.close()
    return answer.count(b"data: {")
async def main():
    print(sum(await asyncio.gather(*(one() for _ in range(streams)))))
asyncio.run(main())
"""


def engine(tokens: int) -> FakeEngine:
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=4096, max_num_seqs=64)
    return FakeEngine(lambda _: [120] * tokens, info=info, delay=PERIOD)


def alone(streams: int, tokens: int) -> float:
    """Seconds of CPU that the fake engine takes by itself."""

    async def drain(fake: FakeEngine, number: int) -> None:
        request = Request(
            request_id=str(number),
            prompt_token_ids=[1],
            sampling=SamplingParams(max_tokens=tokens),
        )
        async for _ in fake.generate(request):
            pass

    async def run() -> None:
        fake = engine(tokens)
        await asyncio.gather(*(drain(fake, number) for number in range(streams)))

    started = time.process_time()
    asyncio.run(run())
    return time.process_time() - started


def served(streams: int, tokens: int) -> float:
    """Seconds of CPU with HTTP around it."""
    state = ready_state(engine(tokens), max_model_len=4096)
    with live(state, http=guarded(send_seconds=30), loop="uvloop") as url:
        host, port = url.removeprefix("http://").split(":")
        command = [sys.executable, "-c", CLIENT, host, port, str(streams), str(tokens)]
        subprocess.run([*command[:-2], "1", "8"], check=True, capture_output=True)  # warm up
        started = time.process_time()
        subprocess.run(command, check=True, capture_output=True)
        return time.process_time() - started


def one_write(num_bytes: int = 240, times: int = 400) -> float:
    """Microseconds of CPU for a write that wakes a reader in another process."""
    reader = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
    reader += "\nwhile s.recv(65536): pass"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with subprocess.Popen([sys.executable, "-c", reader, port]):
            connection, _ = listener.accept()
            with connection:
                spent = 0.0
                for _ in range(times):
                    time.sleep(0.001)  # the reader has read and waits
                    started = time.process_time()
                    connection.send(b"x" * num_bytes)
                    spent += time.process_time() - started
    return 1e6 * spent / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    costs = []
    for _ in range(args.rounds):
        spent = served(args.streams, args.tokens) - alone(args.streams, args.tokens)
        costs.append(1e6 * spent / (args.streams * args.tokens))
        print(f"{costs[-1]:.1f} us a token", flush=True)
    result = {
        "streams": args.streams,
        "us_per_token": round(statistics.median(costs), 1),
        "us_per_write_alone": round(statistics.median(one_write() for _ in range(5)), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
