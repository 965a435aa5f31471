"""The client without its socket: each call is a request to send and a way to read the answer.

    chat("Hi", "tiny", {}) -> Call(path, body, read)       client.py sends it, and gets a Reply:
    Reply(200, headers, body) -> call.read(reply)          an answer
    Reply(429, headers, body) -> refusal(reply, now)       an exception, to be raised or retried

Everything that both clients know about the API is in these functions, so that the sync and the
async client differ in `await` alone. `None` for a parameter means "not given", and the key is
left out; a `model` of None is filled in by the client.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from thirdeye.clients.errors import APIError, NotFound, ThirdeyeError, error_from
from thirdeye.clients.retry import read_retry_after, read_should_retry
from thirdeye.clients.types import Answer, ChatAnswer, Completion, Health, Inspection, Model, Tokens

Messages = str | Sequence[Mapping[str, Any]]
Prompt = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises ThirdeyeError: a server that says 200 and sends no JSON is not one of ours."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise ThirdeyeError("The server's answer is not JSON: is the URL right?") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is sent. `path` is as `Target.url` takes it."""

    path: str
    body: Mapping[str, Any] | None = None  # None: a GET
    # Statuses that answer the question without being 2xx.
    also_accepts: frozenset[int] = frozenset()

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def needs_model(self) -> bool:
        return self.body is not None and self.body.get("model", "") is None

    def for_model(self, model: str) -> Self:
        return replace(self, body={**(self.body or {}), "model": model})

    def accepts(self, status: int) -> bool:
        return 200 <= status < 300 or status in self.also_accepts


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(HttpRequest, Generic[T]):
    """A request, and how its answer is read."""

    read: Callable[[Reply], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(HttpRequest, Generic[A]):
    """A streamed request; its chunks gather into an answer of `answer_type`."""

    answer_type: type[A]


def chat(messages: Messages, model: str | None, params: Mapping[str, Any]) -> Call[ChatAnswer]:
    return Call(
        path="chat/completions",
        body={"model": model, "messages": as_messages(messages), **_whole(params)},
        read=lambda reply: ChatAnswer.read(reply.json()),
    )


def complete(prompt: Prompt, model: str | None, params: Mapping[str, Any]) -> Call[Completion]:
    return Call(
        path="completions",
        body={"model": model, "prompt": prompt, **_whole(params)},
        read=lambda reply: Completion.read(reply.json()),
    )


def stream_chat(
    messages: Messages, model: str | None, params: Mapping[str, Any]
) -> StreamCall[ChatAnswer]:
    return StreamCall(
        path="chat/completions",
        body={"model": model, "messages": as_messages(messages), **_streamed(params)},
        answer_type=ChatAnswer,
    )


def stream(prompt: Prompt, model: str | None, params: Mapping[str, Any]) -> StreamCall[Completion]:
    return StreamCall(
        path="completions",
        body={"model": model, "prompt": prompt, **_streamed(params)},
        answer_type=Completion,
    )


def models() -> Call[list[Model]]:
    return Call(path="models", read=lambda reply: Model.read_list(reply.json()))


def tokenize(text: Messages, params: Mapping[str, Any]) -> Call[Tokens]:
    key = "prompt" if isinstance(text, str) else "messages"
    return Call(
        path="/tokenize",
        body={key: text, **_given(params)},
        read=lambda reply: Tokens.read(reply.json()),
    )


def detokenize(tokens: Sequence[int], params: Mapping[str, Any]) -> Call[str]:
    return Call(
        path="/detokenize",
        body={"tokens": list(tokens), **_given(params)},
        read=lambda reply: _prompt_of(reply.json()),
    )


def inspect(text: Messages | Sequence[int], params: Mapping[str, Any]) -> Call[Inspection]:
    is_prompt = isinstance(text, str) or all(isinstance(part, int) for part in text)
    key = "prompt" if is_prompt else "messages"
    return Call(
        path="inspect",
        body={key: text, **_whole(params)},
        read=lambda reply: Inspection.read(reply.json()),
    )


def health() -> Call[Health]:
    return Call(path="/health", read=_read_health, also_accepts=frozenset({500, 503}))


def as_messages(messages: Messages) -> list[Mapping[str, Any]]:
    """A bare text is a user's turn."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return list(messages)


def first_model(served: Sequence[Model]) -> str:
    """The model of a caller who named none. Raises NotFound if the server serves none."""
    if not served or not served[0].id:
        raise NotFound("The server lists no model: name one with 'model'.", status=404)
    return served[0].id


def refusal(reply: Reply, now: float) -> APIError:
    """The exception that a reply outside 2xx stands for. `now` is in seconds since 1970."""
    try:
        body: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = _first_line(reply)
    return error_from(
        reply.status,
        body,
        request_id=reply.headers.get("x-request-id"),
        retry_after=read_retry_after(reply.headers, now),
        should_retry=read_should_retry(reply.headers),
    )


def _first_line(reply: Reply) -> str:
    """What a server that sends no JSON has to say; a proxy's HTML page says nothing."""
    text = reply.body[:300].decode("utf-8", errors="replace").strip()
    if 300 <= reply.status < 400:
        return f"The server redirects to {reply.headers.get('location', 'nowhere')}."
    return "" if text.startswith("<") else text.partition("\n")[0]


def _whole(params: Mapping[str, Any]) -> dict[str, Any]:
    if params.get("stream"):
        raise TypeError("'stream' is not a parameter here: use stream_chat() or stream().")
    return _given(params)


def _streamed(params: Mapping[str, Any]) -> dict[str, Any]:
    """Asks for the usage chunk too, unless the caller says otherwise; {} leaves the option out."""
    options = params.get("stream_options", {"include_usage": True}) or None
    return _given({**params, "stream": True, "stream_options": options})


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _prompt_of(raw: Any) -> str:
    prompt = raw.get("prompt") if isinstance(raw, dict) else None
    if not isinstance(prompt, str):
        raise ThirdeyeError("The server's answer to /detokenize has no 'prompt'.")
    return prompt


def _read_health(reply: Reply) -> Health:
    """Many servers answer 200 with an empty body, which is no JSON and says enough."""
    return Health.read(reply.status, reply.json() if reply.body.strip() else {})
