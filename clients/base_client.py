"""What `Client` and `AsyncClient` share: whom they ask, how patiently, and what a failure means."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import httpx

from thirdeye.clients.bounds.answer_body import (
    MAX_ANSWER_BYTES,
    MAX_REFUSAL_BYTES,
    MAX_REFUSAL_SECONDS,
    Body,
)
from thirdeye.clients.bounds.empty_events import MAX_EMPTY_SECONDS, EmptyEvents
from thirdeye.clients.core import HttpRequest, Reply, StreamCall
from thirdeye.clients.errors import ConnectionFailed, StreamBroken, ThirdeyeError, Timeout
from thirdeye.clients.retry import RetryPolicy
from thirdeye.clients.stream import NewPart, StreamReader
from thirdeye.clients.target import Target
from thirdeye.clients.types import Answer

A = TypeVar("A", bound=Answer)
H = TypeVar("H", httpx.Client, httpx.AsyncClient)

CONNECT_TIMEOUT = 5.0  # seconds


class BaseClient(ABC, Generic[H]):
    """`H`: the httpx client that it sends with."""

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout: float | None = 600.0,
        stream_timeout: float | None = 600.0,
        token_timeout: float | None = MAX_EMPTY_SECONDS,
        max_retries: int = 2,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        urls = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        if not urls:
            raise ValueError("'base_url' must name a server, got an empty list.")
        self.targets = [Target.find(url, api_key) for url in urls]
        self.target = self.targets[0]
        self.model = model
        self._retry = RetryPolicy(max_retries)
        self._timeout = timeout
        self._stream_timeout = stream_timeout
        self._token_timeout = token_timeout
        self._max_answer_bytes = max_answer_bytes
        self._http: H = self._connect(
            headers={"Accept-Encoding": "identity", **self.target.headers},
            trust_env=not any(target.is_loopback for target in self.targets),
        )

    @abstractmethod
    def _connect(self, **options: Any) -> H:
        """The httpx client that waits in this one's way."""

    def _request(self, call: HttpRequest, target: Target) -> httpx.Request:
        """Built anew for each try."""
        read = self._stream_timeout if isinstance(call, StreamCall) else self._timeout
        limits = httpx.Timeout(
            connect=CONNECT_TIMEOUT, read=read, write=self._timeout, pool=self._timeout
        )
        url = target.url(call.path)
        return self._http.build_request(call.method, url, json=call.body, timeout=limits)

    def _body(self, response: httpx.Response) -> Body:
        return Body(response.headers, self._max_answer_bytes, self._timeout)

    def _reader(self, call: StreamCall[A], new_part: NewPart | None = None) -> StreamReader[A]:
        empty = EmptyEvents(seconds=self._token_timeout)
        return StreamReader(call.answer_type, new_part=new_part, empty=empty)

    def _wait(self, error: ThirdeyeError, attempt: int) -> float:
        """Seconds until the next try; raises `error` where there is to be none."""
        wait = self._retry.wait(error, attempt, random.random())
        if wait is None:
            raise error
        return wait


def refusal_body(response: httpx.Response) -> Body:
    return Body(response.headers, MAX_REFUSAL_BYTES, MAX_REFUSAL_SECONDS, is_cut=True)


def reply_of(response: httpx.Response, body: Body) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body.read())


def failure_of(cause: httpx.RequestError, target: Target) -> ThirdeyeError:
    """What a try without an answer means; a connect that times out found nobody at home."""
    error: ThirdeyeError
    if isinstance(cause, httpx.TimeoutException) and not isinstance(cause, httpx.ConnectTimeout):
        error = Timeout(f"No answer from {target.base_url} in time ({type(cause).__name__}).")
    else:
        reason = str(cause) or type(cause).__name__
        error = ConnectionFailed(f"No answer from {target.base_url}: {reason}")
    error.__cause__ = cause
    return error


def cut_of(cause: httpx.RequestError) -> ThirdeyeError:
    if isinstance(cause, httpx.TimeoutException):
        return Timeout("The stream was silent for longer than 'stream_timeout': it was left.")
    reason = str(cause) or type(cause).__name__
    return StreamBroken(f"The stream broke before [DONE]: {reason}")
