"""A streamed answer that has ended is freed at once: nothing of it refers to itself. What waited
for the garbage collector would be taken apart in one piece, and all streams stand still meanwhile.
"""

import asyncio
import gc
import json

import pytest
from starlette.types import Message

from tests.api.support import CHAT, COMPLETION, app_serving, fake_engine, post_scope, ready_state


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_that_has_ended_leaves_nothing(path: str) -> None:
    fields = COMPLETION if path == "/v1/completions" else CHAT
    body = json.dumps({**fields, "max_tokens": 5, "stream": True}).encode()

    async def ask() -> None:
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        has_ended = asyncio.Event()

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await has_ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                has_ended.set()

        await app(post_scope(path), receive, send)
        assert has_ended.is_set()

    async def ask_twice() -> list[str]:
        await ask()  # what is made once
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        await ask()
        await asyncio.sleep(0)
        gc.collect()
        return [kind for one in gc.garbage if (kind := str(type(one))).startswith("<class 'thirde")]

    with app_serving(ready_state(fake_engine())) as app:
        gc.disable()
        try:
            assert asyncio.run(ask_twice()) == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
