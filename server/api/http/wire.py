"""The ASGI extension by which a piece of a body gets to its socket in one call.

ASGI's own way is a coroutine and several layers of wrappers for each piece. A server that offers
this extension (`thirdeye.server.transport.direct_write`) leaves the head, the end and all waiting
to ASGI.
"""

from typing import Protocol, cast

from starlette.requests import Request

WIRE = "thirdeye.wire"  # the extension's name in a scope


class Wire(Protocol):
    """The body of one answer, written to its socket without waiting."""

    @property
    def is_open(self) -> bool:
        """Whether the answer has begun and its client takes what is written."""

    def write(self, body: bytes) -> None:
        """As a message `http.response.body` would, with more to come, and soon: before whatever
        the event loop is told to do later. Only while it is open."""


def wire_of(request: Request) -> Wire | None:
    """None where the server that runs this application has none to offer."""
    return cast("Wire | None", request.scope.get("extensions", {}).get(WIRE))
