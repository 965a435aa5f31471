"""What a server may send in front of an answer's body, and beside it: httpx reads interim answers
without end, and waits for each byte of a head or of a trailer as long as for an answer.

Heads are counted as they come over the socket, below httpx's own reader. A head that has begun is
there at once where a server means well. What stands beside a body, trailers and the words behind
the sizes of chunks, gives nobody more time: a whole body ends within its seconds (`body_within`),
and each piece of a stream is there within the read timeout from when it was asked for (`pieces`).
"""

import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

MAX_INTERIM = 16  # answers of status 1xx before the answer
MAX_HEAD_BYTES = 128 * 2**10
HEAD_SECONDS = 10.0  # from a head's first byte to its last
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d")  # 101 is the last of its connection

_BODY_SECONDS: ContextVar[float | None] = ContextVar("seconds of a body", default=None)
# When the piece of a stream was asked for that is being read.
_ASKED_AT: ContextVar[float | None] = ContextVar("when a piece was asked for", default=None)


@contextmanager
def body_within(seconds: float | None) -> Iterator[None]:
    """What is read in this context ends so many seconds after its head; None: whenever it does."""
    token = _BODY_SECONDS.set(seconds)
    try:
        yield
    finally:
        _BODY_SECONDS.reset(token)


@contextmanager
def _asking() -> Iterator[None]:
    token = _ASKED_AT.set(time.monotonic())
    try:
        yield
    finally:
        _ASKED_AT.reset(token)


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Of a stream's body, as they come."""
    raw = response.iter_raw()
    while True:
        with _asking():
            data = next(raw, None)
        if data is None:
            return
        yield data


async def async_pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    raw = response.aiter_raw()
    while True:
        with _asking():
            data = await anext(raw, None)
        if data is None:
            return
        yield data


class AnswerHeads:
    """The heads of one connection's answers, between its requests and their bodies."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.sent()

    def sent(self) -> None:
        """Bytes of a request have gone out: what comes next is a head."""
        self._bytes = bytearray()
        self._num_interim = 0
        self._began: float | None = None  # this head
        self._ended: float | None = None  # the last, behind which the body comes

    def check_time(self, timeout: float | None = None) -> None:
        """Before more is waited for, `timeout` seconds at most. Raises `httpcore.ReadTimeout`."""
        now, seconds, asked_at = self._clock(), _BODY_SECONDS.get(), _ASKED_AT.get()
        if asked_at is not None and timeout is not None and now > asked_at + timeout:
            raise httpcore.ReadTimeout(f"no piece of a body in {timeout:g} s")
        if self._began is not None and now > self._began + HEAD_SECONDS:
            raise httpcore.ReadTimeout(f"a head of {HEAD_SECONDS:g} s")
        if self._ended is not None and seconds is not None and now > self._ended + seconds:
            raise httpcore.ReadTimeout(f"a body of {seconds:g} s")

    def received(self, data: bytes) -> None:
        """Raises `httpcore.RemoteProtocolError`."""
        if self._ended is not None or not data:
            return
        if self._began is None:
            self._began = self._clock()
        self._bytes += data
        while found := END_OF_HEAD.search(self._bytes):
            if not INTERIM.match(self._bytes):
                self._began, self._ended = None, self._clock()
                self._bytes.clear()
                return
            self._num_interim += 1
            if self._num_interim > MAX_INTERIM:
                raise httpcore.RemoteProtocolError(f"more than {MAX_INTERIM} interim answers")
            del self._bytes[: found.end()]
            self._began = self._clock() if self._bytes else None
        if len(self._bytes) > MAX_HEAD_BYTES:
            raise httpcore.RemoteProtocolError(f"a head of more than {MAX_HEAD_BYTES:,} bytes")


class BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream, self._heads = stream, AnswerHeads()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._heads.check_time(timeout)
        data = self._stream.read(max_bytes, timeout)
        self._heads.received(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._heads.sent()
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class AsyncBoundedStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream, self._heads = stream, AnswerHeads()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._heads.check_time(timeout)
        data = await self._stream.read(max_bytes, timeout)
        self._heads.received(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._heads.sent()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return AsyncBoundedStream(
            await self._stream.start_tls(ssl_context, server_hostname, timeout)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return BoundedStream(self._backend.connect_tcp(*args, **options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class AsyncBoundedBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return AsyncBoundedStream(await self._backend.connect_tcp(*args, **options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def bounded(client: httpx.Client) -> httpx.Client:
    """The client, whose connections are all such ones; through a proxy as well."""
    for pool in _pools(client):
        pool._network_backend = BoundedBackend(pool._network_backend)
    return client


def async_bounded(client: httpx.AsyncClient) -> httpx.AsyncClient:
    for pool in _pools(client):
        pool._network_backend = AsyncBoundedBackend(pool._network_backend)
    return client


def _pools(client: Any) -> Iterable[Any]:
    """httpx has no way in for a network of one's own; its minor version is pinned."""
    transports = (client._transport, *client._mounts.values())
    return [transport._pool for transport in transports if transport is not None]
