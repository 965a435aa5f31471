"""Requests over plain sockets: little of a machine that the server needs, and exact times."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

PATH = "/v1/completions"


@dataclass
class Answer:
    status: int = 0
    retry_after: int = 0
    seconds: float = 0.0  # to the last byte
    first_token: float | None = None
    text: bytes = b""
    arrivals: list[float] = field(default_factory=list)  # of its pieces, on the monotonic clock

    @property
    def is_done(self) -> bool:
        return self.status == 200 and b"[DONE]" in self.text


def request_bytes(body: dict[str, Any], path: str = PATH, *, closes: bool = True) -> bytes:
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{'Connection: close' if closes else 'Connection: keep-alive'}\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


async def ask(port: int, body: dict[str, Any], path: str = PATH, patience: float = 120) -> Answer:
    """One request on a connection of its own, read to its end."""
    answer, began = Answer(), time.monotonic()
    async with asyncio.timeout(patience):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request_bytes(body, path))
            while piece := await reader.read(1 << 16):
                answer.text += piece
                answer.arrivals.append(time.monotonic())
                if answer.first_token is None and b"data: " in piece:
                    answer.first_token = time.monotonic() - began
        finally:
            writer.close()
    answer.seconds = time.monotonic() - began
    head, _, _ = answer.text.partition(b"\r\n\r\n")
    answer.status = int(head.split(None, 2)[1])
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"retry-after:"):
            answer.retry_after = int(line.partition(b":")[2])
    return answer


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
