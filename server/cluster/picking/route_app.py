"""What HAProxy asks before it sends a request on: which replica is to have it.

`POST /internal/route` with the request's body (or its beginning) and its session; the answer names
a replica. An ASGI application of one route, without a framework: it is a part of every request.
"""

import time
from collections.abc import Callable

import msgspec
from starlette.types import Message, Receive, Scope, Send

from thirdeye.server.cluster.picking.affinity_key import affinity_key, key_of_cut_body
from thirdeye.server.cluster.picking.asking_picker import AskingPicker

SESSION, CUT = b"x-session-id", b"x-body-truncated"


class RouteApp:
    """`clock` tells unix seconds."""

    def __init__(self, picker: AskingPicker, clock: Callable[[], float] = time.time) -> None:
        self._picker, self._clock = picker, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send)
            return
        headers = dict(scope["headers"])
        body = await whole_body(receive)
        key = key_of(body, headers.get(SESSION, b"").decode("latin-1"), is_cut=CUT in headers)
        picked = await self._picker.pick(key, self._clock())
        if picked is None:
            await respond(send, 503, {"error": "There is no replica yet."})
        else:
            await respond(send, 200, {"replica_id": picked})


def key_of(body: bytes, session: str, *, is_cut: bool) -> bytes | None:
    """What is no JSON object has no key: the replica says what is wrong with it."""
    if session:
        return affinity_key({}, session)
    if is_cut:
        return key_of_cut_body(body)
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return affinity_key(read) if isinstance(read, dict) else None


async def whole_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def respond(send: Send, status: int, said: dict[str, str]) -> None:
    body = msgspec.json.encode(said)
    head: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    await send(head)
    await send({"type": "http.response.body", "body": body})


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """There is nothing to be started."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
