"""A server on the test's own loop that answers by a schedule: the oracle of everything measured.

It decides when each event goes out; what the load tester says it saw must be just that.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.clients.loadtest.virtual import now
from tests.clients.stub import DONE, MODELS, event
from thirdeye.clients.target import Target


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds to the first token and before each further one; or a refusal, or a break."""

    ttft: float = 0.5
    gaps: tuple[float, ...] = (0.1, 0.1)
    status: int = 200
    retry_after: float | None = None
    has_usage: bool = True
    tokens_per_event: int = 1
    tail: float = 0.0  # seconds before [DONE]
    ends: str = "done"  # done, cut: no [DONE], abort: the connection breaks, error: an error event
    is_kept_alive: bool = True
    is_chunked: bool = True


@dataclass
class Arrived:
    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Server:
    """`answer(body, index)` says how request number `index` is answered."""

    answer: Callable[[dict[str, Any], int], Answer] = lambda body, index: Answer()
    arrived: list[Arrived] = field(default_factory=list)
    num_connections: int = 0
    num_running: int = 0
    peak_running: int = 0
    url: str = ""

    @property
    def target(self) -> Target:
        return Target.find(self.url, environ={})

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        top, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if top.startswith("GET"):
            return await reply(writer, 200, MODELS)
        body = json.loads(raw)
        answer = self.answer(body, len(self.arrived))
        self.arrived.append(Arrived(now(), top.split()[1], headers, body))
        self.num_running += 1
        self.peak_running = max(self.peak_running, self.num_running)
        try:
            return await send(writer, answer, "chat" in top)
        finally:
            self.num_running -= 1

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            yield self


async def send(writer: asyncio.StreamWriter, answer: Answer, is_chat: bool) -> bool:
    if answer.status != 200:
        after = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
        return await reply(writer, answer.status, {"error": {"message": "No."}}, after)
    connection = "keep-alive" if answer.is_kept_alive else "close"
    framing = "Transfer-Encoding: chunked\r\n" if answer.is_chunked else ""
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: {connection}\r\n"
        f"{framing}\r\n".encode()
    )

    async def put(data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data) if answer.is_chunked else data)
        await writer.drain()

    await put(
        b": ping\n\n" + (event(chunk({"role": "assistant", "content": ""})) if is_chat else b"")
    )
    for index, wait in enumerate((answer.ttft, *answer.gaps)):
        await asyncio.sleep(wait)
        if answer.ends == "abort" and index == 1:
            writer.transport.abort()
            return False
        if answer.ends == "error" and index == 1:
            await put(event({"error": {"message": "The engine died."}}))
        await put(event(chunk({"content": f"t{index} "}) if is_chat else text(f"t{index} ")))
    await asyncio.sleep(answer.tail)
    if answer.has_usage:
        count = answer.tokens_per_event * (1 + len(answer.gaps))
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        await put(event({"choices": [], "usage": usage}))
    if answer.ends != "cut":
        await put(DONE)
    if answer.is_chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return answer.is_kept_alive and answer.is_chunked


def chunk(delta: dict[str, str]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"choices": [choice], "usage": None, "error": None}


def text(piece: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": piece, "finish_reason": None}]}


async def reply(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
) -> bool:
    data = json.dumps(body).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    writer.write(
        f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data
    )
    await writer.drain()
    return True
