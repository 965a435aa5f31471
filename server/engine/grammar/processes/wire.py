"""What an engine and the processes that follow callers' grammars say to each other.

    engine -> source    the vocabulary, once; then a socket for each process that it shall fork
    engine -> process   grammar | follow | mask, a reply to each
    either -> engine    encode: a text, whose ids it needs for its reply

Each message is a letter, a size, and so many bytes; ids and masks are int32.
"""

import socket
from collections.abc import Callable, Sequence
from struct import Struct

import numpy as np

from thirdeye.server.engine.interface.grammar_protocol import REFUSED, TOO_COMPLEX, GrammarError

HEAD = Struct(">cQ")
GRAMMAR, FOLLOW, MASK, ENCODE = b"g", b"f", b"m", b"e"
DONE, NOT_ALLOWED, COMPLEX, IDS = b"d", b"n", b"c", b"i"
NUM_KEPT, IS_OVER = Struct(">Q"), Struct(">?")
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
            send(sock, IDS, pack_ids(encode(body.decode(errors="surrogatepass"))))
            kind, body = receive(sock)
    except OSError:
        raise GrammarError(TOO_COMPLEX) from None
    if kind != DONE:
        raise GrammarError(REFUSED if kind == NOT_ALLOWED else TOO_COMPLEX)
    return body


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
