"""A token's way to its client without a task in between: event -> chunk -> frame -> socket.

The usual way is a chain of generators, drawn by a task that a queue wakes: it is what can wait,
fail, be cancelled and lag, and it costs ten times what the token's own bytes take. While all of it
is at rest, and the socket takes what it is given, the same steps are made in one call, for every
stream of an engine's step in a row. The bytes are the same because what makes them is: the same
tally, shape and framing. A client that lags has its socket closed to this way, so its tokens queue
up behind it and go out together.
"""

from typing import cast

from starlette.requests import Request

from thirdeye.server.api.generation.answer_format import AnswerFormat, Chunk
from thirdeye.server.api.generation.choices import Item
from thirdeye.server.api.generation.mailbox import Mailbox
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.asgi_extension import DIRECT_WRITE, DirectWriter
from thirdeye.server.text.events import TextEvent


def wire_of(request: Request) -> DirectWriter | None:
    """None where the server that runs this application has none to offer."""
    return cast("DirectWriter | None", request.scope.get("extensions", {}).get(DIRECT_WRITE))


class Push:
    """A `Shortcut` from the events of one choice to the socket of its streamed answer."""

    __slots__ = ("_frames", "_index", "_mailbox", "_tally", "_wire")

    def __init__(
        self,
        wire: DirectWriter,
        form: AnswerFormat[Chunk],
        tally: Tally,
        index: int,
        mailbox: Mailbox[Item],
    ) -> None:
        """`mailbox` is where the usual way begins: its reader waits once all of it is at rest."""
        self._wire = wire
        self._frames = form.frames
        self._tally = tally
        self._index = index
        self._mailbox = mailbox

    @property
    def is_open(self) -> bool:
        return self._mailbox.is_awaited and self._wire.is_open

    def send(self, event: TextEvent) -> None:
        self._tally.add(self._index, event)
        for frame in self._frames(self._index, event):
            self._wire.write(frame)
