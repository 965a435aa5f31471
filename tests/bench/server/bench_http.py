"""What a streamed token costs the API process, in microseconds of CPU: all that is not the engine.

    python -m tests.bench.server.bench_http [--streams 32] [--tokens 400] [--rounds 5] [--chat]

The server as it serves; an engine process without a model that sends one message a step with a
token for every stream; a client in a third process that keeps up. What the requests themselves take
is measured by short answers and told apart. `unwritten` is the same without the write to the
socket: what is ours. `behind` is the same while eight steps come at once, as they do to a server
that is late: what a stream got is one write. What one waking write takes by itself stands beside
it: no server can be below that while each token is written at once. The last line is JSON.
"""

import argparse
import asyncio
import gc
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import uvloop

from tests.api.support import VOCAB_SIZE, ByteTokenizer, served_model
from tests.engine.process.fake_engine import fake_info
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.asgi_extension import DIRECT_WRITE, DirectWriter
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.types import FinishReason, StepOutput, Timings
from thirdeye.server.engine.process.frames import FrameReader, pack_frame
from thirdeye.server.engine.process.messages import Abort, Add, Hello, Ready, Step, Stop, ToEngine
from thirdeye.server.engine.process.process_engine import ProcessEngine
from thirdeye.server.engine.process.spawn import spawn
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.transport.connection_guard import GuardedProtocol
from thirdeye.server.transport.server import bind, serve

PERIOD = 0.01  # seconds between the tokens of a stream
BURST = 8  # steps that come at once to a server that is behind
FEW = 16  # tokens of an answer that tells what a request takes by itself
TOKEN = ord("x")
CLIENT = """
import asyncio, json, sys
import uvloop
port, streams, path, body = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
head = f"POST {path} HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\n"
head += f"Connection: close\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
async def one():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    answer = await reader.read(-1)
    assert b"[DONE]" in answer, answer[:500]
    writer.close()
    return answer.count(b"data: {")
async def main():
    print(sum(await asyncio.gather(*(one() for _ in range(streams)))))
uvloop.run(main())
"""


def run_engine(sock: socket.socket, burst: int) -> None:
    """The engine's side of the pipe: `burst` steps at once, so that the rate is always the same."""
    frames = FrameReader[ToEngine](msgspec.msgpack.Decoder(ToEngine))
    left: dict[str, int] = {}  # request -> tokens that it still gets
    sequence, due = 0, time.monotonic()
    while True:
        wait = max(due - time.monotonic(), 0)
        if select.select([sock], [], [], wait)[0]:
            match frames.read(sock):
                case Hello():
                    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=8192, max_num_seqs=256)
                    sock.sendall(pack_frame(Ready(info)))
                case Add(request):
                    left[request.request_id] = request.sampling.max_tokens
                case Abort(request_id):
                    left.pop(request_id, None)
                case Stop():
                    return
            continue
        due = max(due, time.monotonic() - PERIOD) + PERIOD * burst
        steps = []
        for _ in range(burst if left else 0):
            outputs = [one_token(request_id, left) for request_id in list(left)]
            steps.append(pack_frame(Step(sequence, outputs, EngineStats(steps_total=sequence))))
            sequence += 1
        sock.sendall(b"".join(steps))


def one_token(request_id: str, left: dict[str, int]) -> StepOutput:
    left[request_id] -= 1
    if left[request_id]:
        return StepOutput(request_id=request_id, token_ids=[TOKEN])
    del left[request_id]
    timings = Timings(0.0, 0.0, 1.0, 1.0, 1)
    reason = FinishReason.LENGTH
    return StepOutput(
        request_id=request_id, token_ids=[TOKEN], finish_reason=reason, timings=timings
    )


class TableTokenizer(ByteTokenizer):
    """Looks a token's bytes up, as the real one does."""

    table = (b"",) * TOKEN + (b" hello",) + (b"",) * VOCAB_SIZE

    def merge_rank(self, token_id: int) -> int | None:
        return token_id if token_id < 256 else None

    def token_bytes(self, token_id: int) -> bytes:
        return self.table[token_id]


class Unwritten:
    """A wire that takes everything and writes nothing."""

    def __init__(self, wire: DirectWriter) -> None:
        self._wire = wire

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    def write(self, body: bytes) -> None:
        pass


class MuteProtocol(GuardedProtocol):
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        offered: dict[str, Any] = self.scope["extensions"]
        extensions: dict[str, Any] = {DIRECT_WRITE: Unwritten(offered[DIRECT_WRITE])}
        self.scope["extensions"] = extensions


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: how many steps come at once, and whether anything is written."""

    burst: int = 1
    protocol: type[GuardedProtocol] = GuardedProtocol


CASES = {"prompt": Case(), "behind": Case(burst=BURST), "unwritten": Case(protocol=MuteProtocol)}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of this process's CPU."""

    per_token: float
    per_request: float


async def measured(case: Case, streams: int, tokens: int, path: str) -> Cost:
    """What the API process burns while it serves these streams from first to last."""
    state, sock = ServerState(), bind("127.0.0.1", 0)
    prompt = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi"}
    field = "messages" if "chat" in path else "prompt"
    costs: list[Cost] = []

    async def seconds(streams: int, tokens: int) -> float:
        asked = {"model": "tiny", "max_tokens": tokens, "stream": True, field: prompt[field]}
        port, began = str(sock.getsockname()[1]), time.process_time()
        argv = [sys.executable, "-c", CLIENT, port, str(streams), path, json.dumps(asked)]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
        assert await process.wait() == 0
        return time.process_time() - began

    async def load() -> None:
        argv = [sys.executable, "-m", "tests.bench.server.bench_http", str(case.burst)]
        engine = await ProcessEngine.start(spawn(argv), b"")
        state.ready(engine, served_model(tokenizer=TableTokenizer(), max_model_len=8192))
        await seconds(2, FEW)  # warm up
        gc.freeze()  # as the server does once it is ready
        few = await seconds(streams, FEW)
        many = await seconds(streams, FEW + tokens)
        per_request = 1e6 * few / streams
        costs.append(Cost(1e6 * (many - few) / (streams * tokens), per_request))
        os.kill(os.getpid(), signal.SIGTERM)

    app = create_app(state, ApiConfig())
    await serve(app, state, sock, load=load, protocol=case.protocol)
    return costs[0]


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
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--chat", action="store_true")
    args = parser.parse_args()
    path = "/v1/chat/completions" if args.chat else "/v1/completions"
    rounds: dict[str, list[Cost]] = {name: [] for name in args.case}
    for _ in range(args.rounds):
        for name, costs in rounds.items():
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                costs.append(runner.run(measured(CASES[name], args.streams, args.tokens, path)))
            print(f"{name}: {costs[-1].per_token:.1f} us a token", flush=True)
    per_request = [cost.per_request for costs in rounds.values() for cost in costs]
    result = {
        "streams": args.streams,
        "us_per_token": {
            name: round(statistics.median(cost.per_token for cost in costs), 1)
            for name, costs in rounds.items()
        },
        "us_per_request": round(statistics.median(per_request)),
        "us_per_write_alone": round(statistics.median(one_write() for _ in range(3)), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].isdigit():
        run_engine(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[1]))
    else:
        main()
