"""A guard for each connection: limits on headers, slow heads, slow bodies, readers that have
stopped, and the number of connections.

uvicorn under httptools has none of these. One timer and the part being read (idle, head, body) per
connection; timers are absolute, so that a byte now and then does not keep them from firing. They
never touch a running answer. Another timer runs while the client takes nothing of what is written:
without it, even a closed connection would wait for ever to hand over its last bytes. This rests on
uvicorn's protocol class: pyproject pins its minor version.
"""

import asyncio
import sys
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import uuid4

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from thirdeye.server.errors import (
    ApiError,
    InvalidRequest,
    ServiceUnavailable,
    out_of_memory,
)
from thirdeye.server.transport.answering_protocol import AnsweringProtocol


class RequestPart(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class GuardedProtocol(AnsweringProtocol):
    """`active` counts messages whose head is complete and whose answer is not."""

    max_header_bytes: ClassVar[int] = 32 * 1024
    max_headers: ClassVar[int] = 100
    max_connections: ClassVar[int] = 1024
    head_seconds: ClassVar[float] = 10.0
    body_seconds: ClassVar[float] = 30.0
    # Of a body as it comes, its chunks' sizes and the words behind them among it: the application
    # counts what is in them, and nobody what is read behind an answer.
    max_raw_body_bytes: ClassVar[int] = 64 * 2**20
    send_seconds: ClassVar[float] = 31.0  # a stream is ended first, by its own time limit

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._part = RequestPart.IDLE
        self._active = 0
        self._num_headers = 0
        self._parsed_bytes = 0  # of the head, as the parser hands them over
        self._raw_bytes = 0  # of the head, as they came: the parser is silent inside a long line
        self._num_begun = 0  # messages begun in the chunk being parsed
        self._raw_body_bytes = 0  # since the last head's end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, b"retry-after: 1\r\n")
        else:
            self._arm(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        self._expect_reading(False)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        is_between = self._part is RequestPart.IDLE and self._active == 0
        if is_between and self.refuse_again(data):
            self._disarm()
            if self.transport.is_closing():
                self._expect_reading(True)
            return
        before, self._num_begun = self._part, 0
        super().data_received(data)
        if self._part is RequestPart.BODY:
            self._check_body(len(data))
        if self._part is not RequestPart.HEAD:
            return
        is_same_head = before is RequestPart.HEAD and self._num_begun == 0
        is_new_head = before is RequestPart.IDLE and self._num_begun == 1
        if is_same_head or is_new_head:
            self._raw_bytes += len(data)
            self._check_head(self._raw_bytes)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words for it)
        cause = getattr(sys.exc_info()[1], "__context__", None)
        if isinstance(cause, MemoryError):  # of a callback: the parser tells it as an error in HTTP
            self.logger.error("There was no memory to read a request.")
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, b"retry-after: 5\r\n", out_of_memory())
        else:
            self._refuse(HTTPStatus.BAD_REQUEST)

    # Writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect_reading(self.transport.is_closing())

    def _end_waiting(self) -> None:
        super()._end_waiting()
        self._expect_reading(True)

    def _expect_reading(self, is_expected: bool) -> None:
        """Drop the connection if the client does not take what is waiting for it."""
        if self._stalled is not None:
            self._stalled.cancel()
        abort = self.transport.abort
        self._stalled = self.loop.call_later(self.send_seconds, abort) if is_expected else None

    # Parser callbacks, in the order of one message

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._num_begun += 1
        self._part = RequestPart.HEAD
        self._num_headers = self._parsed_bytes = self._raw_bytes = 0
        if self._active == 0:
            self._arm(self.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_parsed(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._num_headers += 1
        self._count_parsed(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if not self.transport.is_closing() and not self._has_path():
            self.logger.warning("Invalid HTTP request received.")  # as for all that is no HTTP
            self._refuse(HTTPStatus.BAD_REQUEST)
        if self.transport.is_closing():
            return  # refused: no task may start
        self._part = RequestPart.BODY
        self._raw_body_bytes = 0
        self._active += 1
        if self._active == 1:
            self._arm(self.body_seconds)
        else:
            self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._part = RequestPart.IDLE
        self._disarm()
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._active -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading(True)
        if self._part is RequestPart.HEAD and self._active == 0:
            self._arm(self.head_seconds)
        elif self._part is RequestPart.BODY and self._active == 1:
            self._arm(self.body_seconds)

    def _has_path(self) -> bool:
        """Whether the target is one that a server has: uvicorn takes a path for granted, which
        `CONNECT host:1`, `OPTIONS *` and `GET http://` have not."""
        if self.parser.get_method() == b"CONNECT":
            return False
        try:
            return httptools.parse_url(self.url).path is not None
        except httptools.HttpParserError:
            return False

    def _unsupported_upgrade_warning(self) -> None:
        """A request to upgrade is answered as if it had not asked: HTTP allows that."""

    def _count_parsed(self, num_bytes: int) -> None:
        self._parsed_bytes += num_bytes
        self._check_head(self._parsed_bytes)

    def _check_head(self, num_bytes: int) -> None:
        if num_bytes > self.max_header_bytes or self._num_headers > self.max_headers:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _check_body(self, num_bytes: int) -> None:
        self._raw_body_bytes += num_bytes
        if self._raw_body_bytes > self.max_raw_body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(
        self, status: HTTPStatus, extra: bytes = b"", error: ApiError | None = None
    ) -> None:
        """Close; and say why, where no byte of an answer can be on the wire already."""
        self._disarm()
        if self.transport.is_closing():
            return
        if self._may_write():
            self.transport.write(self._answer(status, extra, error))
        self.transport.close()
        self._expect_reading(True)

    def _answer(self, status: HTTPStatus, extra: bytes, error: ApiError | None) -> bytes:
        """An error like those of the application, which never sees this request."""
        body = msgspec.json.encode((error or self._error(status)).body())
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: req_{uuid4().hex}\r\nconnection: close\r\n"
        )
        return head.encode() + extra + b"\r\n" + body

    def _error(self, status: HTTPStatus) -> ApiError:
        why = {
            HTTPStatus.BAD_REQUEST: "The request is not valid HTTP.",
            HTTPStatus.REQUEST_TIMEOUT: "The request took too long to arrive.",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
                f"The request's head must be at most {self.max_header_bytes} bytes and "
                f"{self.max_headers} headers."
            ),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
                f"The request's body must be at most {self.max_raw_body_bytes} bytes with the "
                "sizes of its chunks: send fewer, larger chunks."
            ),
            HTTPStatus.SERVICE_UNAVAILABLE: (
                f"At most {self.max_connections} connections may be open. Try again in 1 s."
            ),
        }[status]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            return ServiceUnavailable(why, code="too_many_connections")
        return InvalidRequest(why)

    def _may_write(self) -> bool:
        if self._part is not RequestPart.BODY:
            return self._active == 0
        return self._active == 1 and not self.cycle.response_started


def guarded(**limits: float) -> type[GuardedProtocol]:
    """The protocol class with other limits: `guarded(head_seconds=1)`."""
    return type("GuardedProtocol", (GuardedProtocol,), limits)
