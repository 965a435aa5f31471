"""One end of the socket between rank 0 and another rank: typed messages, both ways.

Between two hosts it beats: a host that loses its power or its cable sends no end of the stream, so
either end takes silence for death. Between processes of one host the kernel tells.
"""

import contextlib
import socket
import threading
from typing import Generic, TypeVar

import msgspec

from thirdeye.server.engine.process.frames import FrameReader, pack_frame

HEARTBEAT = 2.0  # seconds between two signs of life
SILENCE = 20.0  # seconds without any: the other host is gone, or does not move

T = TypeVar("T")


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """Nothing new; the host is there."""


class RankLink(Generic[T]):
    """`receive` is for one thread, `send` for any. Both raise ConnectionError when the other end
    is gone, and TimeoutError, between hosts, when it has been silent for `SILENCE` seconds."""

    def __init__(
        self, sock: socket.socket, decoder: "msgspec.msgpack.Decoder[T]", *, is_remote: bool
    ) -> None:
        """`decoder` is of a union that `Heartbeat` belongs to."""
        self._sock, self._frames = sock, FrameReader(decoder)
        self._turn = threading.Lock()
        self._is_over = threading.Event()
        if is_remote:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(SILENCE)
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def send(self, message: msgspec.Struct) -> None:
        self.send_frame(pack_frame(message))

    def send_frame(self, frame: bytes) -> None:
        with self._turn:
            self._sock.sendall(frame)

    def receive(self) -> T:
        try:
            while isinstance(message := self._frames.read(self._sock), Heartbeat):
                pass
        except EOFError:
            self._is_over.set()
            raise ConnectionResetError("the other end is gone") from None
        return message

    def close(self) -> None:
        """No sign of life from here any more."""
        self._is_over.set()
        self._sock.close()

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # whoever receives is told
            while not self._is_over.wait(HEARTBEAT):
                self.send(Heartbeat())
