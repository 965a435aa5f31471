"""What a refusal costs the server's process, from its bytes to the answer's: in processor time,
which others on the machine do not blur.

    python -m tests.trust.live.refusal_cost

Each is timed with its code and data in the processor's caches, and behind 96 MB that have driven
them out, as a step of the engine does with a model's weights: `known` with a head that was refused
before, `parsed` with one that chose an id, as all were until there were known ones. Medians in us.
The last line is JSON.
"""

import asyncio
import json
import socket
import statistics
import time

import numpy as np
import uvloop

from tests.api.admission.test_early_refusal import full_house
from tests.trust.live.flood import BODY
from tests.trust.live.raw_client import request_bytes
from thirdeye.server.garbage_collection import freeze_heap
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.transport.connection_guard import GuardedProtocol
from thirdeye.server.transport.server import make_server

TURNS = 5
COUNTS = {"warm": 400, "cold": 40}  # of each in a turn
KNOWN = request_bytes(BODY, closes=False)
WAYS = {"known": KNOWN, "parsed": KNOWN.replace(b"\r\nHost", b"\r\nX-Request-Id: mine\r\nHost")}


def times(protocol: GuardedProtocol, client: socket.socket, data: bytes, kind: str) -> list[float]:
    """In us; `client` takes the answers."""
    weights = np.ones(96_000_000 // 8)
    found = []
    for _ in range(COUNTS[kind]):
        if kind == "cold":
            weights.sum()
        began = time.thread_time_ns()
        protocol.data_received(data)
        found.append((time.thread_time_ns() - began) / 1000)
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
    return found


async def measure() -> dict[str, float]:
    server = make_server(create_app(full_house()), GuardedProtocol, "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with socket.create_connection(listener.getsockname()) as client:
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            (protocol,) = server.server_state.connections
            assert isinstance(protocol, GuardedProtocol)
            freeze_heap()
            found: dict[str, list[float]] = {f"{w}_{k}_us": [] for w in WAYS for k in COUNTS}
            for _ in range(TURNS):
                for way, data in WAYS.items():
                    for kind in COUNTS:
                        found[f"{way}_{kind}_us"] += times(protocol, client, data, kind)
        server.leave()
        await serving
    return {name: round(statistics.median(each), 1) for name, each in found.items()}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure())))
