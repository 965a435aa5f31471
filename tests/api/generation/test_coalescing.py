"""A client that lags gets what came meanwhile in one write, and loses nothing of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from sse_starlette.sse import SendTimeoutError
from starlette.types import Message, Receive

from tests.api.support import (
    CHAT,
    COMPLETION,
    app_serving,
    fake_engine,
    post_scope,
    ready_state,
    says,
)
from tests.engine.process.fake_engine import FakeEngine
from tests.oracles import virtual_time
from thirdeye.server.api.http.sse import OpenStreams, SendLimit, event_stream

TEXT = "Grüße, 世界 😀! And a little more, so that there is something to join."


class Client:
    """Reads a first body, then nothing until the engine has said all; as ASGI sees it."""

    def __init__(self, path: str, body: dict[str, Any], engine: FakeEngine, lags: bool) -> None:
        self.scope = post_scope(path)
        self._body = json.dumps(body).encode()
        self._engine = engine
        self._lags = lags
        self.writes: list[bytes] = []

    async def receive(self) -> Message:
        if self._body:
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        if body := message.get("body"):
            self.writes.append(body)
        if self._lags and len(self.writes) == 1:
            while self._engine.stats().num_requests_running:
                await asyncio.sleep(0)

    @property
    def frames(self) -> list[bytes]:
        text = b"".join(self.writes)
        assert text.endswith(b"data: [DONE]\n\n")
        assert text.count(b"[DONE]") == 1
        return text.split(b"\n\n")[:-2]


async def streamed(path: str, body: dict[str, Any], lags: bool, **knobs: Any) -> Client:
    engine = fake_engine(says(TEXT), **knobs)
    client = Client(path, body | {"stream": True}, engine, lags)
    with app_serving(ready_state(engine)) as app:
        await app(client.scope, client.receive, client.send)
    return client


def text_of(choice: dict[str, Any]) -> str:
    return choice.get("text", "") or choice.get("delta", {}).get("content", "")


def texts(client: Client) -> dict[int, str]:
    found: dict[int, str] = {}
    for frame in client.frames:
        for choice in json.loads(frame.removeprefix(b"data: ")).get("choices", []):
            found[choice["index"]] = found.get(choice["index"], "") + text_of(choice)
    return found


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)]
)
def test_a_lagging_client_gets_the_rest_in_one_write(
    path: str, body: dict[str, Any], n: int
) -> None:
    """All that waited is one body; a client that keeps up gets each event by itself."""
    body = body | {"n": n, "max_tokens": 200}
    lagging = asyncio.run(streamed(path, body, lags=True))
    prompt = asyncio.run(streamed(path, body, lags=False, delay=0.001))
    assert len(lagging.writes) <= 4  # the first, what came meanwhile, the last event, [DONE]
    assert max(write.count(b"data: ") for write in lagging.writes) > len(TEXT) // 2
    if n == 1:
        assert max(write.count(b"data: ") for write in prompt.writes) <= 2  # a role and a text
    assert texts(lagging) == texts(prompt) == dict.fromkeys(range(n), TEXT)
    assert len(lagging.frames) == len(prompt.frames)


def test_usage_counts_up_within_one_write() -> None:
    """An event is counted when its chunk is made, not when its batch arrives."""
    options = {"stream_options": {"continuous_usage_stats": True}, "max_tokens": 200}
    client = asyncio.run(streamed("/v1/completions", COMPLETION | options, lags=True))
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in client.frames]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(set(counts))
    assert ["timings" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_what_came_before_a_failure_is_sent_before_it() -> None:
    """Also when both are in the batch of a client that lags."""
    knobs = {"error_after": 5, "error": "Out of memory."}
    client = asyncio.run(streamed("/v1/completions", COMPLETION, lags=True, **knobs))
    *sent, error = client.frames
    assert "".join(text_of(json.loads(f[6:])["choices"][0]) for f in sent) == TEXT.encode()[
        :5
    ].decode("utf-8", "ignore")
    assert b"Out of memory." in error


async def _three() -> AsyncGenerator[bytes, None]:
    for part in (b"a", b"b", b"c"):
        yield part


async def _closed() -> None:
    pass


async def _serve(
    send: Callable[[Message], Any],
    send_timeout: float,
    bodies: AsyncGenerator[bytes, None],
    ping: float = 0,
) -> None:
    response = event_stream(
        bodies,
        request_id="x",
        is_silent=False,
        close=_closed,
        streams=OpenStreams(),
        ping=ping,
        send_timeout=send_timeout,
        headers={},
    )
    never: Receive = asyncio.Event().wait  # type: ignore[assignment]  # it is never answered
    await response({"type": "http", "method": "POST"}, never, send)


def test_a_send_that_takes_too_long_ends_the_stream() -> None:
    """The second send: the timer has looked once by then and goes on looking."""
    bodies = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            await asyncio.sleep(0.06 if len(bodies) < 3 else 60)

    with pytest.raises(SendTimeoutError):
        virtual_time.run(_serve(send, 0.1, _three()))
    assert bodies == [b"a", b"b", b"c"]


def test_a_task_that_ran_out_of_its_send_limit_is_not_left_cancelled() -> None:
    """Else what ends next in the same task, such as the answer's task group, swallows the error."""

    async def send_for_ever() -> None:
        async with SendLimit(0.01) as limit:
            limit.begin()
            await asyncio.Event().wait()

    async def run() -> int:
        with pytest.raises(SendTimeoutError):
            await send_for_ever()
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(run()) == 0


async def _send_of_both(error: Exception | None = None) -> None:
    """An answer and a keep-alive that reach a stalled client in one turn of the loop."""

    async def bodies() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(1)  # as long as the keep-alive waits
        yield b"a"

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            try:
                await asyncio.Event().wait()
            finally:
                if error and message["body"] == b"a":
                    raise error

    await _serve(send, 2, bodies(), ping=1)


def test_an_answer_and_a_keep_alive_that_stall_together_are_one_send_timeout() -> None:
    """Each send fails by itself; their task group would raise a group, which looks like a bug."""
    with pytest.raises(SendTimeoutError) as stalled:
        virtual_time.run(_send_of_both())
    assert isinstance(stalled.value.__cause__, ExceptionGroup)  # both did fail in that turn
    assert len(stalled.value.__cause__.exceptions) == 2


def test_a_bug_beside_a_send_timeout_is_not_hidden_by_it() -> None:
    with pytest.raises(ExceptionGroup) as failed:
        virtual_time.run(_send_of_both(ValueError("a bug")))
    assert failed.group_contains(ValueError, match="a bug")
