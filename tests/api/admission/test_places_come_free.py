"""A place is free once the last byte of its answer is out: who then asks on the same connection, as
the pools of clients do, is not refused for the answer that it has just read."""

import asyncio
import json

import pytest
from starlette.types import Message

from tests.api.support import (
    CHAT,
    COMPLETION,
    app_serving,
    fake_engine,
    post_scope,
    ready_state,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages"])
def test_with_the_last_byte(path: str, stream: bool) -> None:
    state = ready_state(fake_engine())
    fields = COMPLETION if path == "/v1/completions" else CHAT
    body = json.dumps({**fields, "max_tokens": 5, "stream": stream}).encode()
    in_flight: list[int] = []

    async def ask() -> None:
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        never = asyncio.Event()

        async def receive() -> Message:
            if not unread:
                await never.wait()
            return unread.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200
                in_flight.append(state.admission.in_flight)
            elif not message.get("more_body"):
                look = asyncio.get_running_loop().call_soon  # as a server hears the next request
                look(lambda: in_flight.append(state.admission.in_flight))

        with app_serving(state) as app:
            await app(post_scope(path), receive, send)

    asyncio.run(ask())
    assert in_flight == [1, 0]
