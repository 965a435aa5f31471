"""The short way to a socket: one write for each turn of the loop, and only where it may be."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from thirdeye.server.transport.direct_write import CycleWriter


class Transport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing


def parts(**changes: Any) -> tuple[Any, Any, Any]:
    """A cycle in mid-answer, its transport, its flow."""
    cycle = {
        "response_started": True,
        "response_complete": False,
        "chunked_encoding": True,
        "disconnected": False,
    }
    flow = SimpleNamespace(write_paused=changes.pop("write_paused", False))
    return SimpleNamespace(**(cycle | changes)), Transport(), flow


def test_what_one_turn_of_the_loop_writes_is_one_chunk() -> None:
    """So a server that is behind makes one system call of several steps' tokens."""

    async def main() -> None:
        cycle, transport, flow = parts()
        wire = CycleWriter(cycle, transport, flow, asyncio.get_running_loop())
        wire.write(b"data: one\n\n")
        wire.write(b"data: two\n\n")
        assert transport.writes == []
        await asyncio.sleep(0)
        wire.write(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert transport.writes == [b"16\r\ndata: one\n\ndata: two\n\n\r\n", b"1\r\nx\r\n"]

    asyncio.run(main())


def test_it_is_written_before_what_the_loop_is_told_later() -> None:
    """An answer's end goes by ASGI, told of after the last token: it must come behind it."""

    async def main() -> None:
        cycle, transport, flow = parts()
        loop = asyncio.get_running_loop()
        wire = CycleWriter(cycle, transport, flow, loop)
        waiting = loop.create_future()

        async def end() -> None:
            await waiting
            transport.write(b"0\r\n\r\n")

        task = asyncio.create_task(end())
        await asyncio.sleep(0)
        wire.write(b"x")
        waiting.set_result(None)
        await task
        assert transport.writes == [b"1\r\nx\r\n", b"0\r\n\r\n"]

    asyncio.run(main())


def test_a_connection_that_closes_meanwhile_is_not_written_to() -> None:
    async def main() -> None:
        cycle, transport, flow = parts()
        wire = CycleWriter(cycle, transport, flow, asyncio.get_running_loop())
        wire.write(b"x")
        transport.closing = True
        await asyncio.sleep(0)
        assert transport.writes == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "changes",
    [
        {"response_started": False},
        {"response_complete": True},
        {"disconnected": True},
        {"chunked_encoding": None},
        {"chunked_encoding": False},
        {"write_paused": True},
    ],
)
def test_it_is_open_in_the_middle_of_an_answer_that_is_read(changes: dict[str, Any]) -> None:
    def wire(**changes: Any) -> CycleWriter:
        loop: Any = None
        return CycleWriter(*parts(**changes), loop)

    assert wire().is_open
    assert not wire(**changes).is_open
