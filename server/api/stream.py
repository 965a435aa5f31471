"""Server-sent events: `data: …` frames, keep-alive comments, one `[DONE]`. The only user of
sse_starlette.

Frames are complete bytes when they get here, so a token costs microseconds. An error after the
first byte becomes an error event, and `[DONE]` still ends the stream exactly once.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send

from server.errors import ApiError, internal_error
from server.logs import log_bug

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"
HEADERS = {"Cache-Control": "no-cache"}  # the library adds X-Accel-Buffering: no


def event_stream(
    chunks: AsyncGenerator[bytes, None],
    *,
    request_id: str,
    is_silent: bool,
    close: Callable[[], Awaitable[None]],
    ping: float,
    send_timeout: float,
    headers: Mapping[str, str],
) -> EventSourceResponse:
    """A streaming answer of JSON chunks. When the client leaves, `chunks` is closed.

    `close` is called at the end, also of an answer that never began, whose chunks were not asked
    for. `is_silent`: a comment is already due.
    """
    return ClosingResponse(
        frames(chunks, request_id, is_silent),
        close=close,
        sep="\n",
        ping=ping,
        ping_message_factory=_keepalive,
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


def _keepalive() -> ServerSentEvent:
    return ServerSentEvent(comment="keepalive", sep="\n")


async def frames(
    chunks: AsyncGenerator[bytes, None], request_id: str, is_silent: bool = False
) -> AsyncGenerator[bytes, None]:
    """`data: …` frames of the chunks, an error event if they fail, and `[DONE]`."""
    try:
        if is_silent:
            yield KEEPALIVE
        async with aclosing(chunks):
            async for chunk in chunks:
                yield b"data: " + chunk + b"\n\n"
    except ApiError as error:
        yield _error_frame(error)
    except Exception as bug:
        log_bug(logging.getLogger("thirdeye.api"), request_id, bug)
        yield _error_frame(internal_error(request_id))
    yield DONE


def _error_frame(error: ApiError) -> bytes:
    return b"data: " + msgspec.json.encode(error.body()) + b"\n\n"


def own_the_shutdown() -> None:
    """Stop sse_starlette from cutting every stream at SIGTERM: the drain decides when they end."""
    AppStatus.enable_automatic_graceful_drain = False
    AppStatus.should_exit = False


def cut_streams() -> None:
    """End the streams that are still open, once the drain is over."""
    AppStatus.should_exit = True
