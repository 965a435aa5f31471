"""Users of the HTTP API: the Python client, the terminal chat, the load tester, two shell scripts.

    from thirdeye.clients import Client, AsyncClient

They talk to any OpenAI-compatible server and import nothing of ours. Names are loaded on first
use, so that a program which only asks for help does not pay for an HTTP library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thirdeye.clients.async_client import AsyncClient, AsyncStream
    from thirdeye.clients.client import Client, Stream
    from thirdeye.clients.errors import (
        APIError,
        Authentication,
        BadRequest,
        ConnectionFailed,
        ContextLengthExceeded,
        NotFound,
        NotResumed,
        Overloaded,
        RateLimited,
        ServerError,
        StreamBroken,
        ThirdeyeError,
        Timeout,
    )
    from thirdeye.clients.types import (
        ChatAnswer,
        Chunk,
        Completion,
        Health,
        Inspection,
        Model,
        Tokens,
        Usage,
    )

__all__ = [
    "APIError",
    "AsyncClient",
    "AsyncStream",
    "Authentication",
    "BadRequest",
    "ChatAnswer",
    "Chunk",
    "Client",
    "Completion",
    "ConnectionFailed",
    "ContextLengthExceeded",
    "Health",
    "Inspection",
    "Model",
    "NotFound",
    "NotResumed",
    "Overloaded",
    "RateLimited",
    "ServerError",
    "Stream",
    "StreamBroken",
    "ThirdeyeError",
    "Timeout",
    "Tokens",
    "Usage",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in (
            "thirdeye.clients.errors",
            "thirdeye.clients.types",
            "thirdeye.clients.client",
            "thirdeye.clients.async_client",
        ):  # lightest first
            found = vars(import_module(module)).get(name)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
