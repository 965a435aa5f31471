"""What the connections of one server know together of those whom it refuses."""

from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

from thirdeye.server.transport.held_back import HeldBack
from thirdeye.server.transport.known_heads import KnownHeads


class Flood:
    def __init__(self) -> None:
        self.heads = KnownHeads()
        self.held = HeldBack()
        self._default: list[tuple[bytes, bytes]] = []
        self._default_lines = b""

    def default_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers of every answer as they are sent; uvicorn makes a new list each second."""
        if headers is not self._default:
            self._default = headers
            self._default_lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return self._default_lines


_FLOODS: WeakKeyDictionary[ServerState, Flood] = WeakKeyDictionary()


def flood_of(state: ServerState) -> Flood:
    """The one of this server."""
    if (found := _FLOODS.get(state)) is None:
        found = _FLOODS[state] = Flood()
    return found
