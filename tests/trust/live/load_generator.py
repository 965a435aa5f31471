"""Requests in a process of its own, over one epoll: some ten microseconds of a core for each.

    python -m tests.trust.live.load_generator PORT --body JSON --seconds 30 --rate 800
    python -m tests.trust.live.load_generator PORT --body JSON --seconds 10 --callers 8

An open loop sends the next one whether the last was answered or not; callers wait for their
answers. Connections are kept and used again, as the pools of official clients do; with `--fresh`
each request has its own. At the end: a line of JSON for each, and one about the generator itself. A
client that shares cores with its server is part of what it measures, so it does as little as it
can, and says how late it sent and what it took.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.trust.live.raw_client import quantile, request_bytes

END = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"  # of a streamed answer, on a connection that is kept
TOLD = ("late", "status", "seconds", "first_token", "retry_after", "is_done")  # of each request


@dataclass(slots=True)
class Sent:
    """One request: times in seconds, from when it was due."""

    late: float = 0.0  # sent so long after
    status: int = 0  # 0: the connection was refused, or ended before a status
    seconds: float = 0.0  # to the last byte
    first_token: float | None = None
    retry_after: int = 0
    is_done: bool = False
    due: float = 0.0
    tail: bytes = b""
    left: int = 0  # bytes of a refusal that have not come


class Generator:
    def __init__(self, port: int, data: bytes, *, keeps: bool = True) -> None:
        self._address, self._data, self._keeps = ("127.0.0.1", port), data, keeps
        self._idle: list[socket.socket] = []  # the one used last is used next
        self._selector = selectors.DefaultSelector()
        self.sent: list[Sent] = []
        self.num_open = 0

    def send(self, due: float) -> None:
        one = Sent(due=due)
        self.sent.append(one)
        try:
            sock = self._kept() or self._connected()
            sock.send(self._data)
        except OSError:
            return
        one.late = time.monotonic() - due
        self._selector.register(sock, selectors.EVENT_READ, one)
        self.num_open += 1

    def _kept(self) -> socket.socket | None:
        """One that the server has not closed meanwhile."""
        while self._idle:
            sock = self._idle.pop()
            with suppress(ConnectionError):
                try:
                    sock.recv(1, socket.MSG_PEEK)
                except BlockingIOError:
                    return sock
            sock.close()
        return None

    def _connected(self) -> socket.socket:
        sock = socket.socket()
        try:
            sock.connect(self._address)  # at once, on one machine: the listener's queue takes it
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    def read(self, until: float) -> Iterator[Sent]:
        """Take what has come, or wait for it; gives those that have ended."""
        for key, _ in self._selector.select(max(until - time.monotonic(), 0)):
            sock, one = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            piece = b""
            with suppress(ConnectionError):
                piece = sock.recv(1 << 16)
            if piece and not one.status:
                self._begin(one, piece)
            elif piece:
                self._go_on(one, piece)
            if not piece or (self._keeps and self._is_whole(one)):
                self._selector.unregister(sock)
                if piece:
                    self._idle.append(sock)
                else:
                    sock.close()
                self.num_open -= 1
                one.seconds = time.monotonic() - one.due
                one.is_done = END in one.tail
                yield one

    @staticmethod
    def _is_whole(one: Sent) -> bool:
        return one.tail.endswith(LAST_CHUNK) if one.status == 200 else one.left <= 0

    def _begin(self, one: Sent, piece: bytes) -> None:
        one.status = int(piece[9:12])
        if one.status == 200:
            self._go_on(one, piece)
            return
        head, _, body = piece.lower().partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.startswith(b"retry-after:"):
                one.retry_after = int(line.partition(b":")[2])
            elif line.startswith(b"content-length:"):
                one.left += int(line.partition(b":")[2])
        one.left -= len(body)

    @staticmethod
    def _go_on(one: Sent, piece: bytes) -> None:
        if one.status != 200:
            one.left -= len(piece)
            return
        if one.first_token is None and b"data: " in piece:
            one.first_token = time.monotonic() - one.due
        one.tail = (one.tail + piece)[-64:]


def closed_loop(generator: Generator, callers: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    for _ in range(callers):
        generator.send(time.monotonic())
    while generator.num_open:
        for _ in generator.read(time.monotonic() + 1):
            if time.monotonic() < end:
                generator.send(time.monotonic())


def open_loop(generator: Generator, rate: float, seconds: float) -> None:
    began, num_due = time.monotonic(), 0
    while num_due < rate * seconds or generator.num_open:
        due = began + num_due / rate
        if num_due < rate * seconds and time.monotonic() >= due:
            generator.send(due)
            num_due += 1
        elif num_due < rate * seconds:
            for _ in generator.read(due):
                pass
        else:
            for _ in generator.read(time.monotonic() + 1):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--body", type=json.loads, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, help="requests a second, in an open loop")
    parser.add_argument("--callers", type=int, help="who wait for their answers")
    parser.add_argument("--fresh", action="store_true", help="a connection for each request")
    asked = parser.parse_args()
    data = request_bytes(asked.body, closes=asked.fresh)
    generator = Generator(asked.port, data, keeps=not asked.fresh)
    began = time.monotonic()
    if asked.rate:
        open_loop(generator, asked.rate, asked.seconds)
    else:
        closed_loop(generator, asked.callers, asked.seconds)
    about: dict[str, Any] = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time(),
        "late_p99": quantile([one.late for one in generator.sent], 0.99),
    }
    for one in generator.sent:
        told = {name: getattr(one, name) for name in TOLD}
        print(json.dumps({"due": one.due - began, **told}))
    print(json.dumps(about))


if __name__ == "__main__":
    sys.exit(main())
