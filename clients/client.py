"""`Client` and `AsyncClient`: the same calls, one blocking, one to be awaited.

Both are thin shells over httpx: what is sent and how answers are read is `core`, when to try
again is `retry`, how a stream is read is `stream`. Only the lines that wait exist twice. Any
OpenAI-compatible server will do.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from itertools import count
from typing import Any, Generic, Self, TypeVar

import httpx

from thirdeye.clients import core
from thirdeye.clients.bounds import MAX_ANSWER_BYTES, MAX_REFUSAL_BYTES, Body, check_encoding
from thirdeye.clients.core import Call, HttpRequest, Messages, Prompt, Reply, StreamCall
from thirdeye.clients.errors import ConnectionFailed, StreamBroken, ThirdeyeError, Timeout
from thirdeye.clients.retry import RetryPolicy
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
H = TypeVar("H", httpx.Client, httpx.AsyncClient)

CONNECT_TIMEOUT = 5.0  # seconds


class _Base(ABC, Generic[H]):
    """What both clients are made of: whom they ask, how patiently, and how often."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout: float | None = 600.0,
        stream_timeout: float | None = 600.0,
        max_retries: int = 2,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.target = Target.find(base_url, api_key)
        self.model = model
        self._retry = RetryPolicy(max_retries)
        self._timeout = timeout
        self._stream_timeout = stream_timeout
        self._max_answer_bytes = max_answer_bytes
        self._http: H = self._connect(
            headers={"Accept-Encoding": "identity", **self.target.headers},
            trust_env=not self.target.is_loopback,
        )

    @abstractmethod
    def _connect(self, **options: Any) -> H:
        """The httpx client that waits in this one's way."""

    def _request(self, call: HttpRequest) -> httpx.Request:
        """Built anew for each try."""
        read = self._stream_timeout if isinstance(call, StreamCall) else self._timeout
        limits = httpx.Timeout(
            connect=CONNECT_TIMEOUT, read=read, write=self._timeout, pool=self._timeout
        )
        url = self.target.url(call.path)
        return self._http.build_request(call.method, url, json=call.body, timeout=limits)

    def _body(self, response: httpx.Response) -> Body:
        return Body(response.headers, self._max_answer_bytes)

    def _wait(self, error: ThirdeyeError, attempt: int) -> float:
        """Seconds until the next try; raises `error` where there is to be none."""
        wait = self._retry.wait(error, attempt, random.random())
        if wait is None:
            raise error
        return wait


class Client(_Base[httpx.Client]):
    """A blocking client for an OpenAI-compatible server.

    >>> from thirdeye.clients import Client
    >>> with Client() as client:
    ...     answer = client.chat("Say hello.", temperature=0)
    ...     print(answer.text, answer.finish_reason, answer.usage.completion_tokens)
    Hello there! stop 3

    A stream gives the answer as it grows, and the whole of it at the end:

    >>> with Client() as client, client.stream_chat("Say hello.") as stream:
    ...     print([chunk.text for chunk in stream if chunk.text])
    ...     print(stream.answer().text)
    ['Hello', ' there', '!']
    Hello there!

    The URL comes from `base_url`, else from OPENAI_BASE_URL, else it is http://127.0.0.1:8000/v1;
    the key from `api_key`, else from OPENAI_API_KEY. Without a `model` the server's first one is
    asked. `timeout` is how many seconds the server may be silent in a call, `stream_timeout` in a
    stream, where a ping counts (thirdeye sends one every 15 s); None is for ever. An answer of more
    than `max_answer_bytes` is not read on. Failures are exceptions of `thirdeye.clients.errors`.
    One client may be shared by threads.
    """

    def _connect(self, **options: Any) -> httpx.Client:
        return httpx.Client(**options)

    def chat(self, messages: Messages, *, model: str | None = None, **params: Any) -> ChatAnswer:
        """One answer to a text or to messages; `params` go into the request as they are."""
        return self._call(core.chat(messages, model or self.model, params))

    def complete(self, prompt: Prompt, *, model: str | None = None, **params: Any) -> Completion:
        """What follows `prompt`, without any chat template."""
        return self._call(core.complete(prompt, model or self.model, params))

    def stream_chat(
        self, messages: Messages, *, model: str | None = None, **params: Any
    ) -> "Stream[ChatAnswer]":
        """Like `chat`, chunk by chunk. The first chunk that is asked for sends the request."""
        return Stream(self._open, core.stream_chat(messages, model or self.model, params))

    def stream(
        self, prompt: Prompt, *, model: str | None = None, **params: Any
    ) -> "Stream[Completion]":
        """Like `complete`, chunk by chunk. The first chunk that is asked for sends the request."""
        return Stream(self._open, core.stream(prompt, model or self.model, params))

    def models(self) -> list[Model]:
        return self._call(core.models())

    def tokenize(self, text: Messages, **params: Any) -> Tokens:
        """The ids of a text, or of messages in the model's template. Not in OpenAI's API."""
        return self._call(core.tokenize(text, params))

    def detokenize(self, tokens: Sequence[int], **params: Any) -> str:
        """The text of token ids. Not in OpenAI's API."""
        return self._call(core.detokenize(tokens, params))

    def inspect(self, text: Messages, **params: Any) -> Inspection:
        """What the model does with a text, layer by layer. thirdeye's own: docs/inspect.md."""
        return self._call(core.inspect(text, params))

    def health(self) -> Health:
        """Whether the server is well. A sick server is an answer; raises only if there is none."""
        return self._call(core.health())

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, call: Call[T]) -> T:
        return call.read(self._ask(call, lambda response: _whole(response, self._body(response))))

    def _open(self, call: StreamCall[A]) -> httpx.Response:
        return self._ask(call, lambda response: response)

    def _ask(self, call: HttpRequest, take: Callable[[httpx.Response], R]) -> R:
        """What `take` makes of the accepted response, after as many tries as it takes."""
        if call.needs_model:
            self.model = self.model or core.first_model(self.models())
            call = call.for_model(self.model)
        for attempt in count():
            try:
                response = self._http.send(self._request(call), stream=True)
                if call.accepts(response.status_code):
                    return take(response)
                error: ThirdeyeError = core.refusal(
                    _whole(response, _refusal_body(response)), time.time()
                )
            except httpx.RequestError as cause:
                error = _failure(cause, self.target)
            time.sleep(self._wait(error, attempt))
        raise AssertionError("count() has no end")


def _whole(response: httpx.Response, body: Body) -> Reply:
    """Reads the response into `body`, and closes it."""
    with closing(response):
        for data in response.iter_raw():
            body.feed(data)
            if body.is_full:
                break
    return _reply(response, body)


class Stream(Generic[A]):
    """The chunks of one answer, as an iterator. Closing it hangs up, and the server stops its work.

    A `with` block closes it, and so do its end and any failure. `answer()` is what has come so far.
    """

    def __init__(
        self, open_: Callable[[StreamCall[A]], httpx.Response], call: StreamCall[A]
    ) -> None:
        self._reader = StreamReader(call.answer_type)
        self._chunks = _read(open_, call, self._reader)

    def answer(self) -> A:
        return self._reader.answer()

    def close(self) -> None:
        self._chunks.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(
    open_: Callable[[StreamCall[A]], httpx.Response], call: StreamCall[A], reader: StreamReader[A]
) -> Generator[Chunk, None, None]:
    """A function and no method: a dropped Stream hangs up at once, as nothing points back to it."""
    with closing(open_(call)) as response:
        check_encoding(response.headers)
        try:
            for data in response.iter_raw():
                yield from reader.feed(data)
                if reader.done:
                    return
        except httpx.RequestError as cause:
            raise _cut(cause) from cause
        reader.finish()


class AsyncClient(_Base[httpx.AsyncClient]):
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
            return await _awhole(response, self._body(response))

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
                    await _awhole(response, _refusal_body(response)), time.time()
                )
            except httpx.RequestError as cause:
                error = _failure(cause, self.target)
            await asyncio.sleep(self._wait(error, attempt))
        raise AssertionError("count() has no end")


async def _awhole(response: httpx.Response, body: Body) -> Reply:
    """`_whole`, awaited."""
    async with aclosing(response):
        async for data in response.aiter_raw():
            body.feed(data)
            if body.is_full:
                break
    return _reply(response, body)


class AsyncStream(Generic[A]):
    """`Stream`, for `async for`."""

    def __init__(
        self, open_: Callable[[StreamCall[A]], Awaitable[httpx.Response]], call: StreamCall[A]
    ) -> None:
        self._reader = StreamReader(call.answer_type)
        self._chunks = _aread(open_, call, self._reader)

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


async def _aread(
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
            raise _cut(cause) from cause
        reader.finish()


def _refusal_body(response: httpx.Response) -> Body:
    return Body(response.headers, MAX_REFUSAL_BYTES, is_cut=True)


def _reply(response: httpx.Response, body: Body) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body.read())


def _failure(cause: httpx.RequestError, target: Target) -> ThirdeyeError:
    """What a try without an answer means; a connect that times out found nobody at home."""
    error: ThirdeyeError
    if isinstance(cause, httpx.TimeoutException) and not isinstance(cause, httpx.ConnectTimeout):
        error = Timeout(f"No answer from {target.base_url} in time ({type(cause).__name__}).")
    else:
        reason = str(cause) or type(cause).__name__
        error = ConnectionFailed(f"No answer from {target.base_url}: {reason}")
    error.__cause__ = cause
    return error


def _cut(cause: httpx.RequestError) -> ThirdeyeError:
    if isinstance(cause, httpx.TimeoutException):
        return Timeout("The stream was silent for longer than 'stream_timeout': it was left.")
    reason = str(cause) or type(cause).__name__
    return StreamBroken(f"The stream broke before [DONE]: {reason}")
