"""A streamed answer from the model's events to its client.

    step of the engine -> event -> frames -> socket                     one call, no task is woken
                                       `---> buffer -> sender -> ASGI   where the socket must wait

Frames go straight to the socket while the sender is idle, so that all before is out, and the socket
takes what it is given. Else they wait in the buffer, and the sender hands all that is there to ASGI
in one body: before the answer has begun, for a client that lags, and under a server or middleware
that has no direct way to offer. The bytes are the same, in the same order.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import anyio
from starlette.requests import Request

from thirdeye.server.api.generation.answer_format import AnswerFormat, Chunk
from thirdeye.server.api.generation.choices import Run
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.asgi_extension import DIRECT_WRITE, DirectWriter
from thirdeye.server.text.events import TextEvent


def direct_writer_of(request: Request) -> DirectWriter | None:
    """None where the server that runs this application has none to offer."""
    return cast("DirectWriter | None", request.scope.get("extensions", {}).get(DIRECT_WRITE))


class StreamedAnswer:
    """Runs from now on. Whoever made it has to close it, read or not."""

    def __init__(
        self, run: Run, form: AnswerFormat[Chunk], tally: Tally, writer: DirectWriter | None
    ) -> None:
        self._tally = tally
        self._frames = form.frames
        self._last_frames = form.last_frames
        self._writer = writer
        self._buffer: list[bytes] = []
        self._idle: asyncio.Future[None] | None = None  # what an idle sender waits for
        self._work = asyncio.create_task(self._run(run))
        self._work.add_done_callback(lambda _: self._wake())

    async def begun(self, seconds: float) -> bool:
        """True once there is something to send, False after `seconds` (0: any time) without.

        Raises what came in its place: a queue's time limit, a refusal, a dead engine is then a
        status with its Retry-After, and not a 200 with an error event in it. After some silence an
        answer begins all the same, since connections that stay silent are cut on their way.
        """
        try:
            async with asyncio.timeout(seconds or None):
                await self._until_there_is_more()
        except TimeoutError:
            return False
        if not self._buffer:
            self._work.result()
        return True

    async def bodies(self) -> AsyncGenerator[bytes, None]:
        """The sender: all that waits, time after time. Raises at the end what the run raised."""
        while True:
            await self._until_there_is_more()
            if not self._buffer:
                break
            body = b"".join(self._buffer)
            self._buffer.clear()
            yield body
        self._work.result()

    async def close(self) -> None:
        """Ends the work; shielded, as our own task may be cancelled."""
        self._work.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(self._work, return_exceptions=True)

    async def _run(self, run: Run) -> None:
        await run(self._deliver)
        for frame in self._last_frames():
            self._send(frame)

    def _deliver(self, index: int, event: TextEvent) -> None:
        """An event is counted first: its chunks may say how many tokens there are so far."""
        self._tally.add(index, event)
        for frame in self._frames(index, event):
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        if self._idle is not None and self._writer is not None and self._writer.is_open:
            self._writer.write(frame)
        else:
            self._buffer.append(frame)
            self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():  # done: cancelled, a moment ago
            self._idle.set_result(None)
        self._idle = None

    async def _until_there_is_more(self) -> None:
        """Or the work is done."""
        if not (self._buffer or self._work.done()):
            self._idle = asyncio.get_running_loop().create_future()
            try:
                await self._idle
            finally:
                self._idle = None
