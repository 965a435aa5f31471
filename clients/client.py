"""`Client`: each call waits for its answer. `AsyncClient`, beside it, has the same to be awaited.

Both are thin shells over httpx: what is sent and how answers are read is `core`, when to try
again is `retry`, how a stream is read is `stream`. Only the lines that wait exist twice. Any
OpenAI-compatible server will do.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import count
from typing import Any, Generic, Self, TypeVar

import httpx

from thirdeye.clients import core
from thirdeye.clients.base_client import BaseClient, cut_of, failure_of, refusal_body, reply_of
from thirdeye.clients.bounds.answer_body import Body, check_encoding
from thirdeye.clients.bounds.bounded_network import body_within, bounded, pieces
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


class Client(BaseClient[httpx.Client]):
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
    asked. `timeout` is how many seconds the server may be silent in a call, and how many the answer
    may take from its first byte to its last; `stream_timeout` how many it may be silent in a
    stream, where a ping counts (thirdeye sends one every 15 s), and `token_timeout` how long such a
    stream may bring no token; None is for ever. An answer of more than `max_answer_bytes` is not
    read on. Failures are exceptions of `thirdeye.clients.errors`.
    One client may be shared by threads.
    """

    def _connect(self, **options: Any) -> httpx.Client:
        return bounded(httpx.Client(**options))

    def chat(self, messages: Messages, *, model: str | None = None, **params: Any) -> ChatAnswer:
        """One answer to a text or to messages; `params` go into the request as they are."""
        return self._call(core.chat(messages, model or self.model, params))

    def complete(self, prompt: Prompt, *, model: str | None = None, **params: Any) -> Completion:
        """What follows `prompt`, without any chat template."""
        return self._call(core.complete(prompt, model or self.model, params))

    def stream_chat(
        self, messages: Messages, *, model: str | None = None, resume: bool = False, **params: Any
    ) -> "Stream[ChatAnswer]":
        """Like `chat`, chunk by chunk. The first chunk that is asked for sends the request."""
        call = core.stream_chat(messages, model or self.model, params)
        return Stream(self._chunks(call, resume=resume))

    def stream(
        self, prompt: Prompt, *, model: str | None = None, resume: bool = False, **params: Any
    ) -> "Stream[Completion]":
        """Like `complete`, chunk by chunk. The first chunk that is asked for sends the request."""
        call = core.stream(prompt, model or self.model, params)
        return Stream(self._chunks(call, resume=resume))

    def models(self) -> list[Model]:
        return self._call(core.models())

    def tokenize(self, text: Messages, **params: Any) -> Tokens:
        """The ids of a text, or of messages in the model's template. Not in OpenAI's API."""
        return self._call(core.tokenize(text, params))

    def detokenize(self, tokens: Sequence[int], **params: Any) -> str:
        """The text of token ids. Not in OpenAI's API."""
        return self._call(core.detokenize(tokens, params))

    def inspect(self, text: Messages | Sequence[int], **params: Any) -> Inspection:
        """What the model does with a text, its token ids or messages, layer by layer. thirdeye's
        own: docs/inspect.md."""
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

    def _call(self, call: Call[T], target: Target | None = None) -> T:
        def take(response: httpx.Response) -> Reply:
            return _whole(response, self._body(response))

        return call.read(self._ask(call, take, target))

    def _models(self, target: Target) -> list[Model]:
        return self._call(core.models(), target)

    def _chunks(
        self, call: StreamCall[A], *, resume: bool
    ) -> "tuple[StreamReader[A], Generator[Chunk, None, None]]":
        """Raises ValueError for an answer that cannot be resumed and is to be."""
        if not resume:
            reader = self._reader(call)
            return reader, _read(self._open, call, reader)
        splice = Splice(call)
        reader = self._reader(call, splice.new_part)
        rounds = Rounds(len(self.targets), self._wait)
        return reader, _read_on(self._open_once, splice, reader, rounds)

    def _open_once(self, call: StreamCall[A], server: int) -> httpx.Response:
        """At one of the servers; who fails there has others to ask."""
        return self._ask(call, lambda response: response, self.targets[server], is_last_try=True)

    def _open(self, call: StreamCall[A]) -> httpx.Response:
        return self._ask(call, lambda response: response)

    def _ask(
        self,
        call: HttpRequest,
        take: Callable[[httpx.Response], R],
        target: Target | None = None,
        *,
        is_last_try: bool = False,
    ) -> R:
        """What `take` makes of the accepted response, after as many tries as it takes."""
        target = target or self.target
        if call.needs_model:
            self.model = self.model or core.first_model(self._models(target))
            call = call.for_model(self.model)
        for attempt in count():
            try:
                response = self._http.send(self._request(call, target), stream=True)
                if call.accepts(response.status_code):
                    return take(response)
                error: ThirdeyeError = core.refusal(
                    _whole(response, refusal_body(response)), time.time()
                )
            except httpx.RequestError as cause:
                error = failure_of(cause, target)
            if is_last_try:
                raise error
            time.sleep(self._wait(error, attempt))
        raise AssertionError("count() has no end")


def _whole(response: httpx.Response, body: Body) -> Reply:
    """Reads the response into `body`, and closes it."""
    with closing(response), body_within(body.seconds):
        for data in response.iter_raw():
            body.feed(data)
            if body.is_full:
                break
    return reply_of(response, body)


ChunksOf = tuple[StreamReader[A], Generator[Chunk, None, None]]


class Stream(Generic[A]):
    """The chunks of one answer, as an iterator. Closing it hangs up, and the server stops its work.

    A `with` block closes it, and so do its end and any failure. `answer()` is what has come so far.
    """

    def __init__(self, chunks: ChunksOf[A]) -> None:
        self._reader, self._chunks = chunks

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
            for data in pieces(response):
                yield from reader.feed(data)
                if reader.done:
                    return
        except httpx.RequestError as cause:
            raise cut_of(cause) from cause
        reader.finish()


def _read_on(
    open_: Callable[[StreamCall[A], int], httpx.Response],
    splice: Splice[A],
    reader: StreamReader[A],
    rounds: Rounds,
) -> Generator[Chunk, None, None]:
    """One answer, over as many streams as it takes."""
    while True:
        num_tokens = splice.num_tokens

        def at_next(call: StreamCall[A]) -> httpx.Response:
            return open_(call, rounds.server)

        try:
            yield from _read(at_next, splice.call, reader)
            splice.check_end()
            return
        except ThirdeyeError as error:
            splice.restart(error)
            wait = rounds.after(error, has_grown=splice.num_tokens > num_tokens)
        reader.restart()
        time.sleep(wait)
