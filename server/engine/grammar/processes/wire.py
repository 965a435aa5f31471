"""What an engine and the processes that follow callers' grammars say to each other.

    engine -> source    the vocabulary, once; then a socket for each process that it shall fork
    engine -> process   grammar | follow; a reply to each: whether it is over, and the mask
    either -> engine    encode: a text, whose ids it needs for its reply

Each message is a letter, a size, and so many bytes; ids and masks are int32.
"""

import socket
from collections.abc import Callable, Sequence
from struct import Struct

import numpy as np

from thirdeye.server.engine.interface.grammar_protocol import REFUSED, TOO_COMPLEX, GrammarError

HEAD = Struct(">cQ")
GRAMMAR, FOLLOW, ENCODE = b"g", b"f", b"e"
DONE, NOT_ALLOWED, COMPLEX, IDS = b"d", b"n", b"c", b"i"
NUM_KEPT, IS_OVER = Struct(">Q"), Struct(">?")
MAX_READ = 1 << 18  # bytes
MAX_SECONDS = 60.0  # of the clock, for a reply: the kernel ends its process long before

Encode = Callable[[str], list[int]]


def send(sock: socket.socket, kind: bytes, body: bytes = b"") -> None:
    sock.sendall(HEAD.pack(kind, len(body)) + body)


def receive(sock: socket.socket) -> tuple[bytes, bytes]:
    """Raises ConnectionError at the end of the socket."""
    kind, size = HEAD.unpack(_read(sock, HEAD.size))
    return kind, _read(sock, size) if size else b""


def ask(sock: socket.socket, encode: Encode, kind: bytes, body: bytes = b"") -> bytes:
    """A reply's bytes. Raises `GrammarError`, also where the process has ended: it is ended for
    what its grammar takes."""
    try:
        send(sock, kind, body)
        kind, body = receive(sock)
        while kind == ENCODE:
            send_ids(sock, encode, body)
            kind, body = receive(sock)
    except OSError:
        raise GrammarError(TOO_COMPLEX) from None
    return checked(kind, body)


def checked(kind: bytes, body: bytes) -> bytes:
    """A reply's bytes. Raises `GrammarError`."""
    if kind != DONE:
        raise GrammarError(REFUSED if kind == NOT_ALLOWED else TOO_COMPLEX)
    return body


def send_ids(sock: socket.socket, encode: Encode, text: bytes) -> None:
    send(sock, IDS, pack_ids(encode(text.decode(errors="surrogatepass"))))


class Inflow:
    """Messages as they come in, of a socket that does not block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._bytes = sock, bytearray()

    def next(self) -> tuple[bytes, bytes] | None:
        """One that is here as a whole. Raises ConnectionError at the end of the socket."""
        while (found := self._whole()) is None:
            try:
                more = self._sock.recv(MAX_READ)
            except BlockingIOError:
                return None
            if not more:
                raise ConnectionResetError
            self._bytes += more
        return found

    def _whole(self) -> tuple[bytes, bytes] | None:
        if len(self._bytes) < HEAD.size:
            return None
        kind, size = HEAD.unpack_from(self._bytes)
        end = HEAD.size + size
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[HEAD.size : end])
        del self._bytes[:end]
        return kind, body


def pack_ids(token_ids: Sequence[int]) -> bytes:
    return np.asarray(token_ids, np.int32).tobytes()


def unpack_ids(body: bytes) -> list[int]:
    return np.frombuffer(body, np.int32).tolist()  # type: ignore[no-any-return]  # numpy says Any


def _read(sock: socket.socket, size: int) -> bytes:
    body = sock.recv(size, socket.MSG_WAITALL)
    while len(body) < size:  # a signal, or more than the kernel waits for
        more = sock.recv(size - len(body), socket.MSG_WAITALL)
        if not more:
            raise ConnectionResetError
        body += more
    return body
