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
from thirdeye.clients.bounds.answer_body import Body, check_encoding
from thirdeye.clients.bounds.bounded_network import async_bounded, async_pieces, body_within
from thirdeye.clients.core import Call, HttpRequest, Messages, Prompt, Reply, StreamCall
from thirdeye.clients.errors import ThirdeyeError
from thirdeye.clients.resume import Rounds, Splice
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.target import Target
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
        return async_bounded(httpx.AsyncClient(**options))

    async def chat(
        self, messages: Messages, *, model: str | None = None, **params: Any
    ) -> ChatAnswer:
        return await self._call(core.chat(messages, model or self.model, params))

    async def complete(
        self, prompt: Prompt, *, model: str | None = None, **params: Any
    ) -> Completion:
        return await self._call(core.complete(prompt, model or self.model, params))

    def stream_chat(
        self, messages: Messages, *, model: str | None = None, resume: bool = False, **params: Any
    ) -> "AsyncStream[ChatAnswer]":
        call = core.stream_chat(messages, model or self.model, params)
        return AsyncStream(self._chunks(call, resume=resume))

    def stream(
        self, prompt: Prompt, *, model: str | None = None, resume: bool = False, **params: Any
    ) -> "AsyncStream[Completion]":
        call = core.stream(prompt, model or self.model, params)
        return AsyncStream(self._chunks(call, resume=resume))

    async def models(self) -> list[Model]:
        return await self._call(core.models())

    async def tokenize(self, text: Messages, **params: Any) -> Tokens:
        return await self._call(core.tokenize(text, params))

    async def detokenize(self, tokens: Sequence[int], **params: Any) -> str:
        return await self._call(core.detokenize(tokens, params))

    async def inspect(self, text: Messages | Sequence[int], **params: Any) -> Inspection:
        return await self._call(core.inspect(text, params))

    async def health(self) -> Health:
        return await self._call(core.health())

    async def _models(self, target: Target) -> list[Model]:
        return await self._call(core.models(), target)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, call: Call[T], target: Target | None = None) -> T:
        async def take(response: httpx.Response) -> Reply:
            return await _whole(response, self._body(response))

        return call.read(await self._ask(call, take, target))

    def _chunks(
        self, call: StreamCall[A], *, resume: bool
    ) -> "tuple[StreamReader[A], AsyncGenerator[Chunk, None]]":
        """Raises ValueError for an answer that cannot be resumed and is to be."""
        if not resume:
            reader = self._reader(call)
            return reader, _read(self._open, call, reader)
        splice = Splice(call)
        reader = self._reader(call, splice.new_part)
        rounds = Rounds(len(self.targets), self._wait)
        return reader, _read_on(self._open_once, splice, reader, rounds)

    async def _open_once(self, call: StreamCall[A], server: int) -> httpx.Response:
        """At one of the servers; who fails there has others to ask."""

        async def take(response: httpx.Response) -> httpx.Response:
            return response

        return await self._ask(call, take, self.targets[server], is_last_try=True)

    async def _open(self, call: StreamCall[A]) -> httpx.Response:
        async def take(response: httpx.Response) -> httpx.Response:
            return response

        return await self._ask(call, take)

    async def _ask(
        self,
        call: HttpRequest,
        take: Callable[[httpx.Response], Awaitable[R]],
        target: Target | None = None,
        *,
        is_last_try: bool = False,
    ) -> R:
        """`Client._ask`, awaited."""
        target = target or self.target
        if call.needs_model:
            self.model = self.model or core.first_model(await self._models(target))
            call = call.for_model(self.model)
        for attempt in count():
            try:
                response = await self._http.send(self._request(call, target), stream=True)
                if call.accepts(response.status_code):
                    return await take(response)
                error: ThirdeyeError = core.refusal(
                    await _whole(response, refusal_body(response)), time.time()
                )
            except httpx.RequestError as cause:
                error = failure_of(cause, target)
            if is_last_try:
                raise error
            await asyncio.sleep(self._wait(error, attempt))
        raise AssertionError("count() has no end")


async def _whole(response: httpx.Response, body: Body) -> Reply:
    """Reads the response into `body`, and closes it."""
    async with aclosing(response):
        with body_within(body.seconds):
            async for data in response.aiter_raw():
                body.feed(data)
                if body.is_full:
                    break
    return reply_of(response, body)


ChunksOf = tuple[StreamReader[A], AsyncGenerator[Chunk, None]]


class AsyncStream(Generic[A]):
    """`Stream`, for `async for`."""

    def __init__(self, chunks: ChunksOf[A]) -> None:
        self._reader, self._chunks = chunks

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
            async for data in async_pieces(response):
                for chunk in reader.feed(data):
                    yield chunk
                if reader.done:
                    return
        except httpx.RequestError as cause:
            raise cut_of(cause) from cause
        reader.finish()


async def _read_on(
    open_: Callable[[StreamCall[A], int], Awaitable[httpx.Response]],
    splice: Splice[A],
    reader: StreamReader[A],
    rounds: Rounds,
) -> AsyncGenerator[Chunk, None]:
    """One answer, over as many streams as it takes."""
    while True:
        num_tokens = splice.num_tokens

        async def at_next(call: StreamCall[A]) -> httpx.Response:
            return await open_(call, rounds.server)

        try:
            async with aclosing(_read(at_next, splice.call, reader)) as chunks:
                async for chunk in chunks:
                    yield chunk
            splice.check_end()
            return
        except ThirdeyeError as error:
            splice.restart(error)
            wait = rounds.after(error, has_grown=splice.num_tokens > num_tokens)
        reader.restart()
        await asyncio.sleep(wait)
