"""The short way from the application to a socket: an ASGI extension of our protocol class.

ASGI has a coroutine, a dictionary and several layers of wrappers for each piece of a body. This
writes pieces of a chunked answer that has begun, and nothing else: its head, its end and all
waiting stay with ASGI. What comes within one turn of the event loop is one write, so a server that
is behind makes up for it. What a reader does not take is not written here, so how much waits in the
transport is bounded as before. It knows uvicorn's cycle of request and response, whose minor
version is pinned.
"""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class CycleWriter:
    """A `DirectWriter` over one request's cycle."""

    __slots__ = ("_cycle", "_flow", "_loop", "_pieces", "_transport")

    def __init__(
        self,
        cycle: RequestResponseCycle,
        transport: asyncio.Transport,
        flow: FlowControl,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._cycle = cycle
        self._transport = transport
        self._flow = flow
        self._loop = loop
        self._pieces: list[bytes] = []  # of this turn of the loop

    @property
    def is_open(self) -> bool:
        cycle = self._cycle
        if self._flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
            return False
        return cycle.response_started and not cycle.response_complete

    def write(self, body: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(body)

    def _flush(self) -> None:
        """Runs before whatever the loop was told later: an end that follows finds this written."""
        assert not self._cycle.response_complete, "an answer ended in front of its own bytes"
        body = b"".join(self._pieces)
        self._pieces.clear()
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
