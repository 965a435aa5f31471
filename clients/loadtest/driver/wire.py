"""HTTP/1.1 with as little between the socket and the stamp as Python allows.

httpx costs more per event than the load tester may spend in all, and it would be measured as the
server's time. This is the least that streaming needs: one request at a time over a connection,
connections reused, bodies handed over as they come with the time of their arrival. httptools does
the framing. No redirects, no proxies, no compression; it knows no JSON and no events.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from thirdeye.clients.target import Target

Clock = Callable[[], float]  # seconds


MAX_HEADER_BYTES = 128 * 2**10  # of an answer, its trailers and interim answers among them
MAX_INTERIM = 16  # answers of status 1xx before the answer


class WireError(Exception):
    """The connection failed, or what came over it is no HTTP."""


class Sink(Protocol):
    """Who gets an answer, as it comes."""

    def sent(self, now: float) -> None:
        """The request's bytes are handed to the socket."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """`headers` has lower-case names."""

    def body(self, data: bytes, now: float) -> None:
        """May raise WireError: the connection is closed, and the exchange ends with it."""


class Wire:
    """A pool of connections to one server; grows with need, keeps what is idle."""

    def __init__(self, target: Target, clock: Clock) -> None:
        parts = urlsplit(target.base_url)
        is_tls = parts.scheme == "https"
        self._tls = ssl.create_default_context() if is_tls else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if is_tls else 80)
        fields = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "thirdeye-bench",
            "Accept": "text/event-stream, application/json",
            "Content-Type": "application/json",
            **target.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._target = target
        self._headers = lines.encode("latin-1")
        self._clock = clock
        self._idle: list[Connection] = []

    async def post(self, path: str, body: bytes, sink: Sink) -> None:
        """Sends `body`, hands the answer to `sink`, returns at its end. Raises WireError."""
        where = urlsplit(self._target.url(path)).path.encode()
        size = b"Content-Length: %d\r\n\r\n" % len(body)
        request = b"".join((b"POST ", where, b" HTTP/1.1\r\n", self._headers, size, body))
        while True:
            connection = self._take()
            is_fresh = connection is None
            connection = connection or await self._connect()
            try:
                await connection.exchange(request, sink)
            except StaleConnection:
                if is_fresh:
                    raise
                continue  # it was closed while idle: nothing has been answered, so ask again
            if not connection.is_closing:
                self._idle.append(connection)
            return

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # one turn of the loop, for the sockets to close in

    def _take(self) -> "Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                return connection
        return None

    async def _connect(self) -> "Connection":
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._clock), self._host, self._port, ssl=self._tls
            )
        except OSError as cause:
            raise WireError(f"No connection to {self._host}:{self._port}: {cause}") from cause
        return connection


class StaleConnection(WireError):
    """The server hung up before the first byte of an answer."""


class Connection(asyncio.Protocol):
    """One connection: a request out, its answer to a sink. Also the parser's callbacks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now = 0.0
        self._sink: Sink | None = None
        self._end: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_closing = False

    async def exchange(self, request: bytes, sink: Sink) -> None:
        """One request and its answer. Cancelled, it closes the connection: the server sees that."""
        assert self._transport is not None
        assert self._end is None, "one request at a time"
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._has_bytes = self._has_head = self._is_interim = False
        self._num_interim = self._num_header_bytes = 0
        self._sink = sink
        self._end = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        sink.sent(self._clock())
        try:
            await self._end
        except BaseException:
            self.close()
            raise
        finally:
            self._sink = self._end = None

    def close(self) -> None:
        self.is_closing = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._now = self._clock()
        if self._end is None or self._end.done():
            self.close()  # bytes that nobody asked for
            return
        self._has_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__ if isinstance(error.__context__, Exception) else error
            self._fail(WireError(f"The answer is no HTTP: {cause}"))
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        if self._end is None or self._end.done():
            return
        if not self._has_bytes:
            self._fail(StaleConnection("The server closed the connection without an answer."))
        elif error is None and self._has_head and self._ends_by_close:
            self._end.set_result(None)
        else:
            self._fail(WireError("The connection broke in mid-answer."))

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_header_bytes += len(name) + len(value)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            raise WireError(f"its heads have more than {MAX_HEADER_BYTES:,} bytes")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._sink is not None
        status = self._parser.get_status_code()
        self._is_interim = 100 <= status < 200 and status != 101
        if self._is_interim:
            self._num_interim += 1
            if self._num_interim > MAX_INTERIM:
                raise WireError(f"more than {MAX_INTERIM} interim answers")
            self._headers = {}
            return
        self._has_head = True
        self._sink.head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        assert self._sink is not None
        self._sink.body(data, self._now)

    def on_message_complete(self) -> None:
        assert self._end is not None
        if self._is_interim:
            return
        if not self._parser.should_keep_alive():
            self.close()
        with suppress(asyncio.InvalidStateError):
            self._end.set_result(None)

    @property
    def _ends_by_close(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def _fail(self, error: WireError) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_exception(error)
