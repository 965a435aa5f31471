"""What of a request's body decides which model answers: read before the rest of it is checked."""

from typing import Any

import msgspec
from msgspec import Struct
from starlette.types import Message, Receive

from thirdeye.server.api.http.json_body import decode_object


class RequestHead(Struct):
    """Fields by their names on the wire; what they must be, the model's own routes say."""

    model: Any = None
    name: Any = None  # Ollama's older word
    receipt: Any = None
    keep_alive: Any = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")

    @property
    def model_name(self) -> str | None:
        """None if it is not said, or is no text."""
        of_receipt = self.receipt.get("model") if isinstance(self.receipt, dict) else None
        found = self.model or self.name or of_receipt
        return found if isinstance(found, str) else None

    @property
    def asks_nothing(self) -> bool:
        """Neither a prompt nor a message: of Ollama's requests, one about the model alone."""
        return bytes(self.messages) in _NOTHING and bytes(self.prompt) in _NOTHING


_NOTHING = (b"", b"null", b"[]", b'""')
_DECODER = msgspec.json.Decoder(RequestHead)


def head_of(data: bytes) -> RequestHead:
    """Raises `InvalidRequest` for what is no JSON object."""
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decode_object(data)  # says what is wrong
        return RequestHead()


def replayed(data: bytes, receive: Receive) -> Receive:
    """A body that was read, once more; then what comes behind it."""
    is_read = False

    async def again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": data, "more_body": False}

    return again
