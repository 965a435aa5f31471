"""Server-sent events: frames, keep-alives, an end. The only user of sse_starlette.

Chunks are complete bytes when they get here, so a token costs microseconds. How they become frames
is the dialect's matter (`Framing`): chat has `data: …` and one `[DONE]`, also after an error.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send

from server.errors import ApiError, internal_error
from server.logs import log_bug

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
    """How a dialect writes its stream; the defaults are chat's."""

    frame: Callable[[bytes], bytes] = data_frame
    error: Callable[[ApiError], bytes] = _error_frame  # the frames of a failure in mid-stream
    keepalive: bytes = b": keepalive\n\n"
    end: bytes = DONE


OPENAI = Framing()


def event_stream(
    chunks: AsyncGenerator[bytes, None],
    *,
    request_id: str,
    is_silent: bool,
    close: Callable[[], Awaitable[None]],
    ping: float,
    send_timeout: float,
    headers: Mapping[str, str],
    framing: Framing = OPENAI,
) -> EventSourceResponse:
    """A streaming answer of JSON chunks. When the client leaves, `chunks` is closed.

    `close` is called at the end, also of an answer that never began, whose chunks were not asked
    for. `is_silent`: a comment is already due.
    """
    return ClosingResponse(
        frames(chunks, request_id, is_silent, framing),
        close=close,
        sep="\n",
        ping=ping,
        ping_message_factory=lambda: _Ready(framing.keepalive),
        send_timeout=send_timeout,
        headers=HEADERS | dict(headers),
    )


class ClosingResponse(EventSourceResponse):
    """Closes what it streams, come what may."""

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        close: Callable[[], Awaitable[None]],
        **options: Any,
    ) -> None:
        super().__init__(content, **options)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()


class _Ready(ServerSentEvent):
    """A frame that is already encoded."""

    def __init__(self, frame: bytes) -> None:
        super().__init__()
        self._frame = frame

    def encode(self) -> bytes:
        return self._frame


async def frames(
    chunks: AsyncGenerator[bytes, None],
    request_id: str,
    is_silent: bool = False,
    framing: Framing = OPENAI,
) -> AsyncGenerator[bytes, None]:
    """The chunks as frames, an error event if they fail, and the dialect's end."""
    try:
        if is_silent:
            yield framing.keepalive
        async with aclosing(chunks):
            async for chunk in chunks:
                yield framing.frame(chunk)
    except ApiError as error:
        yield framing.error(error)
    except Exception as bug:
        log_bug(logging.getLogger("thirdeye.api"), request_id, bug)
        yield framing.error(internal_error(request_id))
    if framing.end:
        yield framing.end


def own_the_shutdown() -> None:
    """Stop sse_starlette from cutting every stream at SIGTERM: the drain decides when they end."""
    AppStatus.enable_automatic_graceful_drain = False
    AppStatus.should_exit = False


def cut_streams() -> None:
    """End the streams that are still open, once the drain is over."""
    AppStatus.should_exit = True
