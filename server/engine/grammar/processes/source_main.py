"""The source of the processes that follow callers' grammars, and these processes.

The source knows the vocabulary and forks: what a process knows of it costs nothing, and is there at
once. Each process follows one grammar. The kernel ends it where a token takes more of a processor
than it may, and the allocator at `MAX_BYTES`; both it and the source end with their sockets.
"""

import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress

import msgspec
import numpy as np

from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler, LLGuidanceMatcher
from thirdeye.server.engine.grammar.processes import wire
from thirdeye.server.engine.interface.grammar_protocol import REFUSED, GrammarError

MAX_BYTES = 1 << 30  # of addresses, the vocabulary's among them
COMPILE_SECONDS = 1.0
BURST_SECONDS = 0.012  # that a token may take, if those before it took little:
TOKEN_SECONDS = 0.002  # what each adds to what is left of it


class SentVocabulary(msgspec.Struct, frozen=True):
    tokens: list[bytes]
    special_token_ids: list[int]
    eos_token_ids: list[int]


class Channel:
    """What this process is asked, and asks itself; over a socket of its own, once it is forked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._asked: tuple[bytes, bytes] | None = None

    def receive(self) -> tuple[bytes, bytes]:
        asked, self._asked = self._asked or wire.receive(self.sock), None
        return asked

    def encode(self, text: str) -> list[int]:
        """The engine answers when it comes to ask for something: that is kept for later."""
        wire.send(self.sock, wire.ENCODE, text.encode(errors="surrogatepass"))
        while (found := wire.receive(self.sock))[0] != wire.IDS:
            self._asked = found
        return wire.unpack_ids(found[1])


class Allowance:
    """Seconds of a processor. The kernel ends what takes more: nobody handles its signal."""

    def __init__(self) -> None:
        self._left = COMPILE_SECONDS  # until the first step: what is done by then is done beside it

    def in_step(self) -> None:
        self._left = min(self._left, BURST_SECONDS)

    def start(self) -> None:
        self._left += TOKEN_SECONDS
        self._began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, max(self._left, TOKEN_SECONDS))

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._left -= time.process_time() - self._began


def serve(sock: socket.socket) -> None:
    channel = Channel(sock)
    vocabulary = msgspec.msgpack.decode(wire.receive(sock)[1], type=SentVocabulary)
    compiler = LLGuidanceCompiler(
        vocabulary.tokens,
        special_token_ids=vocabulary.special_token_ids,
        eos_token_ids=vocabulary.eos_token_ids,
        encode=channel.encode,
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wire.send(sock, wire.DONE)
    while True:
        asked, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        if not asked:
            return
        with socket.socket(fileno=descriptors[0]) as own:
            if os.fork() == 0:
                sock.close()
                channel.sock = own
                resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
                return Walk(channel, compiler).serve()


class Walk:
    """One answer's. Each place comes with the mask of what may follow: no step waits for it."""

    def __init__(self, channel: Channel, compiler: LLGuidanceCompiler) -> None:
        self._channel, self._sock, self._compiler = channel, channel.sock, compiler
        self._mask = np.empty(compiler.num_words, np.int32)
        self._token_ids: list[int] = []
        self._allowance = Allowance()

    def serve(self) -> None:
        _, body = self._channel.receive()
        self._allowance.start()
        try:
            matcher = self._compiler.walk(body.decode(errors="surrogatepass"))
        except GrammarError:
            wire.send(self._sock, wire.COMPLEX)
            return
        reply = self._look(matcher)
        self._allowance.stop()
        wire.send(self._sock, *reply)
        while True:
            _, body = self._channel.receive()
            self._follow(matcher, body)

    def _follow(self, matcher: LLGuidanceMatcher, body: bytes) -> None:
        (num_kept,) = wire.NUM_KEPT.unpack_from(body)
        new = wire.unpack_ids(body[wire.NUM_KEPT.size :])
        is_begun = not self._token_ids and len(new) > 1  # what it has of an earlier answer, at once
        self._token_ids[num_kept:] = new
        if not is_begun:
            self._allowance.in_step()
        self._allowance.start()
        try:
            matcher.follow(self._token_ids)
            reply = self._look(matcher)
        except GrammarError as error:
            reply = wire.NOT_ALLOWED if str(error) == REFUSED else wire.COMPLEX, b""
        self._allowance.stop()
        wire.send(self._sock, *reply)

    def _look(self, matcher: LLGuidanceMatcher) -> tuple[bytes, bytes]:
        """The reply. Where nothing can follow there is no mask."""
        if matcher.is_over:
            return wire.DONE, wire.IS_OVER.pack(True)
        try:
            matcher.fill(self._mask)
        except GrammarError:
            return wire.COMPLEX, b""
        return wire.DONE, wire.IS_OVER.pack(False) + self._mask.tobytes()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[-1])) as given, suppress(ConnectionError):
        serve(given)
