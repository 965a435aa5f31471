"""A connection that is held back is not read; all others are, and its end is seen."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from thirdeye.server.transport.held_back import MANY, HeldBack

LONG = 1000.0  # seconds


class Reader(asyncio.Protocol):
    """Notes what it has read, and tells who waits for that."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self.has_ended = False
        self.told = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.told.set()

    def data_received(self, data: bytes) -> None:
        self.num_bytes += len(data)
        self.told.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.has_ended = True
        self.told.set()

    def is_over(self) -> bool:
        return self.has_ended

    async def until(self, there: Callable[[], bool]) -> None:
        while not there():
            self.told.clear()
            await self.told.wait()


class Pair:
    """A client's socket and what reads it."""

    def __init__(self, client: socket.socket, reader: Reader) -> None:
        self.client, self.reader = client, reader

    async def read(self, num_bytes: int) -> None:
        await self.reader.until(lambda: self.reader.num_bytes >= num_bytes)


Connect = Callable[[], Awaitable[Pair]]


def run(work: Callable[[Connect], Awaitable[None]]) -> None:
    """On the event loop of the server."""
    uvloop = pytest.importorskip("uvloop")
    readers: list[Reader] = []
    clients: list[socket.socket] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def made() -> Reader:
            readers.append(Reader())
            return readers[-1]

        async with await loop.create_server(made, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()

            async def connect() -> Pair:
                client = socket.create_connection(address)
                clients.append(client)
                while len(readers) < len(clients):
                    await asyncio.sleep(0)
                reader = readers[-1]
                await reader.until(lambda: hasattr(reader, "transport"))
                return Pair(client, reader)

            await asyncio.wait_for(work(connect), 60)
            for client in clients:
                client.close()
            for reader in readers:
                await reader.until(reader.is_over)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_it_is_read_once_it_is_released() -> None:
    async def work(connect: Connect) -> None:
        one, other = await connect(), await connect()
        held = HeldBack(LONG)
        held.hold(one.reader.transport)
        one.client.send(b"1234")
        other.client.send(b"12")
        await other.read(2)
        assert one.reader.num_bytes == 0
        held.release()
        await one.read(4)

    run(work)


def test_the_tick_releases() -> None:
    async def work(connect: Connect) -> None:
        held = HeldBack(0.01)
        for one in [await connect(), await connect()] * 2:
            held.hold(one.reader.transport)
            before = one.reader.num_bytes
            one.client.send(b"1")
            await one.read(before + 1)

    run(work)


def test_what_is_large_is_read() -> None:
    async def work(connect: Connect) -> None:
        one = await connect()
        HeldBack(LONG).hold(one.reader.transport)
        await asyncio.to_thread(one.client.sendall, b"1" * 2 * MANY)
        await one.read(MANY)

    run(work)


def test_a_system_without_the_option_holds_nothing_back() -> None:
    class Socket:
        def setsockopt(self, *_: int) -> None:
            raise OSError

    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return Socket() if name == "socket" else default

    HeldBack(LONG).hold(Transport())  # no timer either: there is no loop


def test_its_end_is_seen() -> None:
    async def work(connect: Connect) -> None:
        one = await connect()
        held = HeldBack(LONG)
        held.hold(one.reader.transport)
        one.client.close()
        await one.reader.until(one.reader.is_over)
        held.release()

    run(work)
