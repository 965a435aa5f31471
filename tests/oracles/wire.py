"""Reads along on every HTTP answer that a test receives from one of our servers, and judges it.

    with reading_along() as wire:
        ...                         # httpx, the openai client, ours: whoever asks
    assert not wire.faults

It sits in the transports of httpx (and of httpx2, which the official clients use), so no test has
to ask for it. A whole answer is judged when its body has ended; a stream event by event, and a
stream that was read to its end must have had one `[DONE]`, last. Only answers with our
`x-request-id` on a route with a published schema are judged; raw sockets and curl are not seen.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import httpx
import httpx2  # noqa: TID251 (the official clients': we read along there too)
import msgspec

from tests.oracles.openai_schema import faults_of_answer, faults_of_event, route_of

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
WITHOUT_DONE = ("/messages",)  # Anthropic's streams end with their last event


class Wire:
    """The faults found so far, and how many answers and events were judged."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.num_judged = 0

    def judge(self, where: str, faults: list[str]) -> None:
        self.num_judged += 1
        self.faults += [f"{where}: {fault}" for fault in faults]


class Reading:
    """One answer's body, as it comes."""

    def __init__(self, wire: Wire, method: str, path: str, status: int, kind: str) -> None:
        self._wire = wire
        self._where = f"{method} {path} {status}"
        self._path = path
        self._status = status
        self._kind = kind
        self._rest = b""
        self._num_done = 0
        self._is_over = False  # [DONE] was the last event

    def feed(self, data: bytes) -> None:
        self._rest += data
        if self._kind == EVENTS:
            *frames, self._rest = self._rest.split(b"\n\n")
            for frame in frames:
                self._read_frame(frame)

    def _read_frame(self, frame: bytes) -> None:
        lines = frame.decode().split("\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if not data:
            self._judge([] if frame.startswith(b":") else [f"a frame without data: {frame!r}"])
        elif data == ["[DONE]"]:
            self._num_done += 1
            self._is_over = True
        else:
            self._is_over = False
            self._judge(self._faults_of_event("\n".join(data), lines))

    def _faults_of_event(self, data: str, lines: list[str]) -> list[str]:
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            return [f"{error}: {data[:80]!r}"]
        names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        if names and names != [value.get("type")]:
            return [f"event {names} carries {value.get('type')!r}"]
        return faults_of_event(self._path, value)

    def end(self) -> None:
        """The whole body has been read."""
        if self._kind == JSON:
            value = msgspec.json.decode(self._rest)  # strict: no NaN gets by
            self._judge(faults_of_answer(self._path, self._status, value))
        elif self._kind != EVENTS:
            self._judge([f"the content type is {self._kind!r}"])
        elif self._rest:
            self._judge([f"the stream ends in the middle of a frame: {self._rest[:80]!r}"])
        elif route_of(self._path) not in WITHOUT_DONE and not (
            self._is_over and self._num_done == 1
        ):
            self._judge([f"[DONE] came {self._num_done} times, last: {self._is_over}"])

    def _judge(self, faults: list[str]) -> None:
        self._wire.judge(self._where, faults)


class ReadStream(httpx.SyncByteStream, httpx2.SyncByteStream):
    def __init__(self, stream: Any, reading: Reading) -> None:
        self._stream, self._reading = stream, reading

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._reading.feed(data)
            yield data
        self._reading.end()

    def close(self) -> None:
        self._stream.close()


class AsyncReadStream(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, stream: Any, reading: Reading) -> None:
        self._stream, self._reading = stream, reading

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._reading.feed(data)
            yield data
        self._reading.end()

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def reading_along() -> Iterator[Wire]:
    """Every transport of httpx and httpx2 hands its answers' bodies to the `Wire`, too."""
    wire = Wire()
    with ExitStack() as patches:
        for library in (httpx, httpx2):
            for transport in (library.AsyncHTTPTransport, library.ASGITransport):
                handle = _async(transport.handle_async_request, wire)
                patches.enter_context(patch.object(transport, "handle_async_request", handle))
            handle = _sync(library.HTTPTransport.handle_request, wire)
            patches.enter_context(patch.object(library.HTTPTransport, "handle_request", handle))
        yield wire


def _sync(handle: Any, wire: Wire) -> Any:
    def reading(self: Any, request: Any) -> Any:
        answer = handle(self, request)
        if found := _reading(request, answer, wire):
            answer.stream = ReadStream(answer.stream, found)
        return answer

    return reading


def _async(handle: Any, wire: Wire) -> Any:
    async def reading(self: Any, request: Any) -> Any:
        answer = await handle(self, request)
        if found := _reading(request, answer, wire):
            answer.stream = AsyncReadStream(answer.stream, found)
        return answer

    return reading


def _reading(request: Any, answer: Any, wire: Wire) -> Reading | None:
    """None for an answer nobody judges: a foreign server's, or without a body."""
    path = request.url.path
    is_ours = "x-request-id" in answer.headers and route_of(path) is not None
    is_preflight = request.method == "OPTIONS" and answer.status_code == 204
    if not is_ours or request.method == "HEAD" or is_preflight:
        return None
    kind = answer.headers.get("content-type", "")
    return Reading(wire, request.method, path, answer.status_code, kind)
