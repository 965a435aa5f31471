"""Messages on a socket: four bytes of length, big endian, then msgpack of one typed struct."""

import asyncio
import socket
from struct import Struct
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

LENGTH = Struct(">I")


def pack_frame(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


class FrameReader(Generic[T]):
    """Frames of one union of types, blocking or on an event loop. EOFError at the stream's end."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T], most_bytes: int | None = None) -> None:
        """Raises msgspec.DecodeError for a frame of more than `most_bytes`, before it is read:
        whoever sends it may be a stranger."""
        self._decoder, self._most_bytes = decoder, most_bytes

    def read(self, sock: socket.socket) -> T:
        (length,) = LENGTH.unpack(_receive(sock, LENGTH.size))
        if self._most_bytes is not None and length > self._most_bytes:
            raise msgspec.DecodeError(f"{length} bytes are no message")
        return self._decoder.decode(_receive(sock, length))

    async def read_async(self, reader: asyncio.StreamReader) -> T:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return self._decoder.decode(await reader.readexactly(length))


def _receive(sock: socket.socket, size: int) -> bytearray:
    """Exactly `size` bytes, waiting for them."""
    buffer = bytearray(size)
    view, filled = memoryview(buffer), 0
    while filled < size:
        received = sock.recv_into(view[filled:])
        if received == 0:
            raise EOFError
        filled += received
    return buffer
