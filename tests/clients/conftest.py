"""The stub server, and the two clients behind one face, so that one suite holds for both."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.clients.stub import Stub
from thirdeye.clients import AsyncClient, Client


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "NO_COLOR", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


class SyncFace:
    """`Client` as it is."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Client(url, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def close(self) -> None:
        self.client.close()


class AsyncFace:
    """`AsyncClient`, each call run to its end on a loop of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient(url, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name in ("stream", "stream_chat"):
            return lambda *args, **params: AsyncFaceStream(self.runner, method(*args, **params))
        return lambda *args, **params: self.runner.run(method(*args, **params))

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


class AsyncFaceStream:
    def __init__(self, runner: asyncio.Runner, stream: Any) -> None:
        self.runner = runner
        self.stream = stream

    def __iter__(self) -> "AsyncFaceStream":
        return self

    def __next__(self) -> Any:
        try:
            return self.runner.run(self.stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def answer(self) -> Any:
        return self.stream.answer()

    def close(self) -> None:
        self.runner.run(self.stream.close())


@pytest.fixture(params=[SyncFace, AsyncFace], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest, stub: Stub) -> Iterator[Callable[..., Any]]:
    """Makes a client of the stub; the suite that asks for it runs over both clients."""
    faces: list[Any] = []

    def make(url: str | None = None, **options: Any) -> Any:
        faces.append(request.param(url or stub.url, **options))
        return faces[-1]

    yield make
    for face in faces:
        face.close()


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()


@pytest.fixture
def sync_client(stub: Stub) -> Iterator[Client]:
    with closing(Client(stub.url)) as made:
        yield made
