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

from thirdeye.server.engine.distributed.rank_messages import Failed, FromRank, Loading
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.frames import FrameReader

M = TypeVar("M", bound=FromRank)

RANKS_FAILED = "The ranks of the engine could not work together."


class RankProcess:
    """Another rank's process, and the socket to it."""

    def __init__(
        self,
        rank: int,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        timeout: float,
        on_end: Callable[[str], object],
    ) -> None:
        """`timeout` is in seconds: how long it may say nothing where something is expected.
        `on_end` is called by another thread, with the reason, when the rank cannot go on."""
        self._rank, self._process, self._sock = rank, process, sock
        self._timeout, self._on_end = timeout, on_end
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
        return cls(rank, process, ours, timeout, on_end)

    def _listen(self) -> None:
        frames = FrameReader[FromRank](msgspec.msgpack.Decoder(FromRank))
        try:
            while True:
                message = frames.read(self._sock)
                if isinstance(message, Failed):
                    self._on_end(f"Rank {self._rank}: {message.message}")
                    return
                self._inbox.put(message)
        except (EOFError, ConnectionError):
            self._on_end(f"Rank {self._rank} has ended with code {self._process.wait()}.")

    def send(self, frame: bytes) -> None:
        try:
            self._sock.sendall(frame)
        except ConnectionError as error:
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
