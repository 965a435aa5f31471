"""`AsyncClient`: the calls of `Client`, to be awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Generic, Self, TypeVar

import httpx

from thirdeye.clients import core
from thirdeye.clients.base_client import BaseClient, cut_of, failure_of, refusal_body, reply_of
from thirdeye.clients.bounds import Body, check_encoding
from thirdeye.clients.core import Call, HttpRequest, Messages, Prompt, Reply, StreamCall
from thirdeye.clients.errors import ThirdeyeError
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.types import (
    Answer,
    ChatAnswer,
    Chunk,
    Completion,
    Health,
    Inspection,
    Model,
    Tokens,
)

T = TypeVar("T")
A = TypeVar("A", bound=Answer)
R = TypeVar("R")


class AsyncClient(BaseClient[httpx.AsyncClient]):
    """`Client`, to be awaited: the same arguments, the same answers, the same errors.

    >>> import asyncio
    >>> from thirdeye.clients import AsyncClient
    >>> async def main() -> None:
    ...     async with AsyncClient() as client:
    ...         answers = await asyncio.gather(*(client.chat("Say hello.") for _ in range(2)))
    ...         print([answer.text for answer in answers])
    ...         async with client.stream_chat("Say hello.") as stream:
    ...             async for chunk in stream:
    ...                 print(chunk.text, end="")
    >>> asyncio.run(main())
    ['Hello there!', 'Hello there!']
    Hello there!
    """

    def _connect(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(**options)

    async def chat(
        self, messages: Messages, *, model: str | None = None, **params: Any
    ) -> ChatAnswer:
        return await self._call(core.chat(messages, model or self.model, params))

    async def complete(
        self, prompt: Prompt, *, model: str | None = None, **params: Any
    ) -> Completion:
        return await self._call(core.complete(prompt, model or self.model, params))

    def stream_chat(
        self, messages: Messages, *, model: str | None = None, **params: Any
    ) -> "AsyncStream[ChatAnswer]":
        return AsyncStream(self._open, core.stream_chat(messages, model or self.model, params))

    def stream(
        self, prompt: Prompt, *, model: str | None = None, **params: Any
    ) -> "AsyncStream[Completion]":
        return AsyncStream(self._open, core.stream(prompt, model or self.model, params))

    async def models(self) -> list[Model]:
        return await self._call(core.models())

    async def tokenize(self, text: Messages, **params: Any) -> Tokens:
        return await self._call(core.tokenize(text, params))

    async def detokenize(self, tokens: Sequence[int], **params: Any) -> str:
        return await self._call(core.detokenize(tokens, params))

    async def inspect(self, text: Messages, **params: Any) -> Inspection:
        return await self._call(core.inspect(text, params))

    async def health(self) -> Health:
        return await self._call(core.health())

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, call: Call[T]) -> T:
        async def take(response: httpx.Response) -> Reply:
            return await _whole(response, self._body(response))

        return call.read(await self._ask(call, take))

    async def _open(self, call: StreamCall[A]) -> httpx.Response:
        async def take(response: httpx.Response) -> httpx.Response:
            return response

        return await self._ask(call, take)

    async def _ask(self, call: HttpRequest, take: Callable[[httpx.Response], Awaitable[R]]) -> R:
        """`Client._ask`, awaited."""
        if call.needs_model:
            self.model = self.model or core.first_model(await self.models())
            call = call.for_model(self.model)
        for attempt in count():
            try:
                response = await self._http.send(self._request(call), stream=True)
                if call.accepts(response.status_code):
                    return await take(response)
                error: ThirdeyeError = core.refusal(
                    await _whole(response, refusal_body(response)), time.time()
                )
            except httpx.RequestError as cause:
                error = failure_of(cause, self.target)
            await asyncio.sleep(self._wait(error, attempt))
        raise AssertionError("count() has no end")


async def _whole(response: httpx.Response, body: Body) -> Reply:
    """Reads the response into `body`, and closes it."""
    async with aclosing(response):
        async for data in response.aiter_raw():
            body.feed(data)
            if body.is_full:
                break
    return reply_of(response, body)


class AsyncStream(Generic[A]):
    """`Stream`, for `async for`."""

    def __init__(
        self, open_: Callable[[StreamCall[A]], Awaitable[httpx.Response]], call: StreamCall[A]
    ) -> None:
        self._reader = StreamReader(call.answer_type)
        self._chunks = _read(open_, call, self._reader)

    def answer(self) -> A:
        return self._reader.answer()

    async def close(self) -> None:
        await self._chunks.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _read(
    open_: Callable[[StreamCall[A]], Awaitable[httpx.Response]],
    call: StreamCall[A],
    reader: StreamReader[A],
) -> AsyncGenerator[Chunk, None]:
    async with aclosing(await open_(call)) as response:
        check_encoding(response.headers)
        try:
            async for data in response.aiter_raw():
                for chunk in reader.feed(data):
                    yield chunk
                if reader.done:
                    return
        except httpx.RequestError as cause:
            raise cut_of(cause) from cause
        reader.finish()
