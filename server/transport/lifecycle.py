"""What the server process asks of whatever it serves: one model, or a pool of them."""

from typing import Protocol

from thirdeye.server.api.http.sse import OpenStreams
from thirdeye.server.api.state.server_state import Phase


class Lifecycle(Protocol):
    @property
    def phase(self) -> Phase: ...

    @property
    def streams(self) -> OpenStreams: ...

    @property
    def in_flight(self) -> int:
        """Answers that a drain waits for."""

    def withdraw(self) -> None:
        """From now on `/ready` says no, and requests are served all the same."""

    def drain(self) -> None:
        """New requests are refused."""

    def fail(self, reason: str) -> None: ...

    async def close_engine(self) -> None:
        """No process is left behind; answers under way end with an error."""
