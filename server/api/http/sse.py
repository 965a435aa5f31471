"""Server-sent events: frames, keep-alives, an end. The only user of sse_starlette.

Frames are complete bytes when they get here, in bodies that go out in one write each. What is said
around them is the dialect's matter (`Framing`): chat has one `[DONE]` at the end, also after an
error.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from thirdeye.server.api.http.error_envelope import failure_of
from thirdeye.server.errors import ApiError

DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache"}  # the library adds X-Accel-Buffering: no


def data_frame(chunk: bytes) -> bytes:
    return b"data: " + chunk + b"\n\n"


def event_frame(kind: str, data: bytes) -> bytes:
    """A frame that says what it is before its data does."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _error_frame(error: ApiError) -> bytes:
    return data_frame(msgspec.json.encode(error.body()))


@dataclass(frozen=True, slots=True)
class Framing:
    """What a dialect's stream says beside its answer; the defaults are chat's."""

    error: Callable[[ApiError], bytes] = _error_frame  # the frames of a failure in mid-stream
    keepalive: bytes = b": keepalive\n\n"
    end: bytes = DONE
    media_type: str = "text/event-stream"


OPENAI = Framing()


class OpenStreams:
    """The event streams of one application, which end together once its drain is over."""

    def __init__(self) -> None:
        self._open: set[asyncio.Future[None]] = set()
        self._are_cut = False

    async def until_cut(self) -> None:
        """What a stream waits for beside its frames."""
        if self._are_cut:
            return
        cut = asyncio.get_running_loop().create_future()
        self._open.add(cut)
        try:
            await cut
        finally:
            self._open.discard(cut)

    def cut(self) -> None:
        """End those that are open, and from now on each that is opened. In their event loop."""
        self._are_cut = True
        for cut in self._open:
            if not cut.done():
                cut.set_result(None)


def event_stream(
    bodies: AsyncGenerator[bytes, None],
    *,
    request_id: str,
    is_silent: bool,
    close: Callable[[], Awaitable[None]],
    streams: OpenStreams,
    ping: float,
    send_timeout: float,
    headers: Mapping[str, str],
    framing: Framing = OPENAI,
) -> EventSourceResponse:
    """A streaming answer of frames, one write for each body of them. When the client leaves,
    `bodies` is closed.

    `close` is called at the end, also of an answer that never began, whose bodies were not asked
    for. `streams`: of its application, with which it is cut. `is_silent`: a comment is already due.
    """
    return ClosingResponse(
        framed(bodies, request_id, is_silent, framing),
        close=close,
        streams=streams,
        sep="\n",
        ping=ping,
        ping_message_factory=lambda: _Ready(framing.keepalive),
        send_timeout=send_timeout,
        headers=HEADERS | dict(headers),
        media_type=framing.media_type,
    )


class ClosingResponse(EventSourceResponse):
    """Closes what it streams, come what may.

    Its send loop takes the place of the library's, which looks into each event, logs it and opens a
    cancel scope around each send: several times what the rest of a token's way costs.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        close: Callable[[], Awaitable[None]],
        streams: OpenStreams,
        send_timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(content, send_timeout=send_timeout, **options)
        del self.headers["connection"]  # the server says it, by what the client speaks
        self._content = content
        self._close = close
        self._streams = streams
        self._max_send_seconds = send_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `SendTimeoutError`, also where an answer and a keep-alive wait for one client and
        their sends fail in the same turn: the library would raise the group of the two."""
        try:
            await super().__call__(scope, receive, send)
        except ExceptionGroup as group:
            if group.split(SendTimeoutError)[1] is None:  # nothing else is in it
                raise SendTimeoutError from group
            raise
        finally:
            await self._close()

    async def _listen_for_exit_signal_with_grace(self) -> None:
        """The library would ask a switch of the whole process, which SIGTERM sets: here the drain
        decides when streams end, and those of another application go on."""
        with suppress(asyncio.CancelledError):  # as `_ping` says
            await self._streams.until_cut()

    async def _ping(self, send: Send) -> None:
        """Ends quietly with its stream. The library's way is to cancel it; but a cancelled task of
        anyio's refers to its error, whose traceback to the task, and through that whole requests
        would wait for the garbage collector: all streams stand still while it takes them apart."""
        with suppress(asyncio.CancelledError):
            await super()._ping(send)

    async def _stream_response(self, send: Send) -> None:
        """Raises `SendTimeoutError` if the client does not take what is sent."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        async with SendLimit(self._max_send_seconds) as limit, aclosing(self._content):
            async for body in self._content:
                limit.begin()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                limit.end()
        async with self._send_lock:
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class SendLimit:
    """Ends the task that entered it with `SendTimeoutError` once a send takes `seconds`.

    One timer looks whether there is a send that began so long ago, instead of a timer for each.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None  # None: nothing is being sent
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._is_over and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise SendTimeoutError

    def begin(self) -> None:
        self._began = self._loop.time()

    def end(self) -> None:
        self._began = None

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._began is None else self._began) + self._seconds
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
        elif self._task is not None:
            self._is_over = True
            self._task.cancel()


class _Ready(ServerSentEvent):
    """A frame that is already encoded."""

    def __init__(self, frame: bytes) -> None:
        super().__init__()
        self._frame = frame

    def encode(self) -> bytes:
        return self._frame


async def framed(
    bodies: AsyncGenerator[bytes, None],
    request_id: str,
    is_silent: bool = False,
    framing: Framing = OPENAI,
) -> AsyncGenerator[bytes, None]:
    """The bodies, an error event if they fail, and the dialect's end."""
    try:
        if is_silent:
            yield framing.keepalive
        async with aclosing(bodies):
            async for body in bodies:
                yield body
    except ApiError as error:
        yield framing.error(error)
    except Exception as bug:
        yield framing.error(failure_of(bug, request_id))
    if framing.end:
        yield framing.end
