"""Another rank's process, as rank 0 has it: started, told, listened to.

A thread listens, so that a rank's last word is heard wherever rank 0 is waiting: for another
message, or in a sum over the ranks that one of them will never join.
"""

import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Self, TypeVar

import msgspec

from thirdeye.server.engine.distributed.rank_link import SILENCE, RankLink
from thirdeye.server.engine.distributed.rank_messages import Failed, FromRank, Loading
from thirdeye.server.engine.interface.types import EngineDead

M = TypeVar("M", bound=FromRank)

RANKS_FAILED = "The ranks of the engine could not work together."


class RankProcess:
    """Another rank's process, and the socket to it."""

    def __init__(
        self,
        rank: int,
        sock: socket.socket,
        timeout: float,
        on_end: Callable[[str], object],
        *,
        how_it_ended: Callable[[], str],
        is_remote: bool = False,
    ) -> None:
        """`timeout` is in seconds: how long it may say nothing where something is expected.
        `on_end` is called by another thread, with the reason, when the rank cannot go on; once its
        socket has ended `how_it_ended` says what is known of that."""
        self._rank, self._how_it_ended = rank, how_it_ended
        self._timeout, self._on_end = timeout, on_end
        self._link = RankLink(sock, msgspec.msgpack.Decoder(FromRank), is_remote=is_remote)
        self._inbox: SimpleQueue[FromRank] = SimpleQueue()
        threading.Thread(target=self._listen, name=f"rank-{rank}", daemon=True).start()

    @classmethod
    def start(
        cls, rank: int, argv: Sequence[str], timeout: float, on_end: Callable[[str], object]
    ) -> Self:
        """Run `argv` with the socket's descriptor number as one more argument."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            process = subprocess.Popen(
                [*argv, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        ended = lambda: f"has ended with code {process.wait()}"  # noqa: E731 (one line, used once)
        return cls(rank, ours, timeout, on_end, how_it_ended=ended)

    def _listen(self) -> None:
        try:
            while True:
                message = self._link.receive()
                if isinstance(message, Failed):
                    self._on_end(f"Rank {self._rank}: {message.message}")
                    return
                self._inbox.put(message)
        except ConnectionError:
            self._on_end(f"Rank {self._rank} {self._how_it_ended()}.")
        except TimeoutError:
            self._on_end(f"Rank {self._rank} has been silent for {SILENCE:g} seconds.")

    def send(self, frame: bytes) -> None:
        try:
            self._link.send_frame(frame)
        except (ConnectionError, TimeoutError) as error:
            raise EngineDead(RANKS_FAILED) from error

    def expect(self, kind: type[M]) -> M:
        """Its next message. `EngineDead` if it says nothing at all for too long."""
        while True:
            try:
                message = self._inbox.get(timeout=self._timeout)
            except Empty:
                raise EngineDead(
                    f"Rank {self._rank} has not been heard of for {self._timeout:g} seconds."
                ) from None
            if not isinstance(message, Loading):
                assert isinstance(message, kind), f"unexpected {message!r}"
                return message
