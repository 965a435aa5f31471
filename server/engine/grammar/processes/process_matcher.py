"""Callers' grammars are followed where that can be ended: each in a process of its own.

No limit of llguidance bounds what a grammar takes for one token: forty characters of Lark made it
work for seconds on one, in the middle of everybody's step. A process that takes too long ends, and
its answer alone with it. See `source_main.py` for the other side.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.grammar.processes import wire
from thirdeye.server.engine.grammar.processes.source_main import SentVocabulary
from thirdeye.server.engine.interface.grammar_protocol import (
    REFUSED,
    TOO_COMPLEX,
    GrammarError,
    count_equal,
)

logger = logging.getLogger(__name__)

FEW = 1024  # tokens
NICE = 10  # answers that need no process come first
MAX_PROCESSES = 32  # at once, at some 3 MB each; more requests wait for one
KEPT_BACK = 8  # one in so many, and one at least, is for a tenant that has none


class _Place:
    """Of a process that is to be: held from the moment that it is promised, until it is given back
    or nobody has it any more."""

    def __init__(self, given_back: Callable[[], None]) -> None:
        self._finalizer = weakref.finalize(self, given_back)
        self._finalizer.atexit = False

    def give_back(self) -> None:
        self._finalizer()


class ProcessMatcher:
    """One answer's walk, in another process; see `Matcher` and `LatePlace`. The engine asks, goes
    on with other answers, and takes what it finds."""

    def __init__(
        self,
        sock: socket.socket,
        encode: wire.Encode,
        grammar: str,
        encoders: Executor,
        place: _Place | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Waits for the grammar to be compiled. What it needs of texts later is found by the
        `encoders`: a token of a prescribed text takes all that is left of it, and belongs beside
        the steps. Raises `GrammarError`."""
        self._sock, self._encode, self._clock = sock, encode, clock
        self._encoders = encoders
        self._held_place = place  # free again when this matcher is gone
        self._inflow = wire.Inflow(sock)
        weakref.finalize(self, sock.close)
        self._token_ids: list[int] = []  # what it was told,
        self._asked_at: float | None = None  # and when, until it has come there,
        self._error: GrammarError | None = None  # or why it has not
        body = grammar.encode(errors="surrogatepass")
        self._place = wire.ask(sock, encode, wire.GRAMMAR, body)
        sock.settimeout(0)

    @property
    def late(self) -> "ProcessMatcher":
        return self

    @property
    def is_over(self) -> bool:
        return self._error is None and bool(self._place[0])

    def follow(self, token_ids: Sequence[int]) -> None:
        if self._token_ids == token_ids:
            if self._error is not None:
                raise self._error
            return
        assert self._asked_at is None, "it is on its way to another place"
        num_kept = count_equal(self._token_ids, token_ids)
        self._token_ids[num_kept:] = new = token_ids[num_kept:]
        self._asked_at, self._error = self._clock(), None
        # It has read all that it was sent. A begun answer can be longer than what a socket holds,
        # and is told beside the steps.
        self._sock.settimeout(wire.MAX_SECONDS if len(new) > FEW else 0)
        try:
            wire.send(self._sock, wire.FOLLOW, wire.NUM_KEPT.pack(num_kept) + wire.pack_ids(new))
        except OSError:
            self._arrive(wire.COMPLEX)
            raise GrammarError(TOO_COMPLEX) from None
        finally:
            self._sock.settimeout(0)

    def is_here(self) -> bool:
        if self._asked_at is None:
            return True
        try:
            while (found := self._inflow.next()) is not None and found[0] == wire.ENCODE:
                self._encoders.submit(_answer, self._sock, self._encode, found[1])
        except OSError:  # it is ended for what its grammar takes
            found = wire.COMPLEX, b""
        if found is None and self._clock() > self._asked_at + wire.MAX_SECONDS:
            found = wire.COMPLEX, b""
        if found is not None:
            self._arrive(*found)
        return found is not None

    def _arrive(self, kind: bytes, body: bytes = b"") -> None:
        self._asked_at = None
        try:
            self._place = wire.checked(kind, body)
        except GrammarError as error:
            self._error = error

    def fileno(self) -> int:
        return self._sock.fileno()

    def fill(self, mask: NDArray[np.int32]) -> None:
        assert self._asked_at is None, "it is not there yet"
        if self._error is not None:
            raise self._error
        if self.is_over:
            raise GrammarError(REFUSED)
        found = np.frombuffer(self._place, np.int32, offset=wire.IS_OVER.size)
        size = min(len(mask), len(found))
        mask[:size] = found[:size]
        mask[size:] = 0


def _answer(sock: socket.socket, encode: wire.Encode, text: bytes) -> None:
    """What goes wrong ends the conversation, which is how the other thread sees it."""
    try:
        wire.send_ids(sock, encode, text)
    except Exception as error:
        with suppress(OSError):  # its matcher is gone
            sock.shutdown(socket.SHUT_RDWR)
        if not isinstance(error, OSError):
            logger.exception("a text of a caller's grammar could not be cut into tokens")


class MatcherProcesses:
    """Where they come from. `matcher` is for any thread, `take_place` for one."""

    def __init__(
        self, compiler: Callable[[], LLGuidanceCompiler], max_processes: int = MAX_PROCESSES
    ) -> None:
        """`compiler`: the one of all other grammars, waited for if it is not there yet."""
        self._compiler = compiler
        self._max_processes = max_processes
        self._source: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._starting = threading.Lock()
        self._encoders = ThreadPoolExecutor(1, "callers-texts")
        self._taken: Counter[str] = Counter()  # by tenant, with those that are given back:
        self._given_back: deque[str] = deque()  # by any thread, at any moment
        self.wake: Callable[[], None] = lambda: None  # called, by any thread, as a place is free

    def take_place(self, tenant: str) -> _Place | None:
        """Held by the matcher it is for. None where as many as may be are there: no tenant takes
        the last ones, but for its first."""
        num_kept_back = -(-self._max_processes // KEPT_BACK) if self.num_places(tenant) else 0
        if self._taken.total() + num_kept_back >= self._max_processes:
            return None
        self._taken[tenant] += 1
        return _Place(partial(self._give_back, tenant))

    def num_places(self, tenant: str) -> int:
        while self._given_back:
            self._taken.subtract((self._given_back.popleft(),))
        self._taken = +self._taken  # without those that have none
        return self._taken[tenant]

    def _give_back(self, tenant: str) -> None:
        self._given_back.append(tenant)
        self.wake()

    def matcher(self, grammar: str, place: _Place | None = None) -> ProcessMatcher:
        """Raises `GrammarError`; OSError if no process can be started."""
        ours, theirs = socket.socketpair()
        ours.settimeout(wire.MAX_SECONDS)
        with theirs:
            try:
                with self._starting:
                    self._send(theirs)
            except BaseException:
                ours.close()
                raise
        encode = self._compiler().given.encode
        return ProcessMatcher(ours, encode, grammar, self._encoders, place)

    def close(self) -> None:
        """No more are started; those that are there end with their matchers."""
        self._encoders.shutdown(cancel_futures=True)
        if self._source is not None:
            process, sock = self._source
            sock.close()
            process.wait()
            self._source = None

    def _send(self, theirs: socket.socket) -> None:
        process, sock = self._source or self._start()
        if process.poll() is not None:  # somebody ended it
            sock.close()
            process, sock = self._start()
        socket.send_fds(sock, [b"+"], [theirs.fileno()])

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """In a session of its own: Ctrl-C is not for it. It ends with our end of the socket, and
        has one thread alone, since it forks."""
        ours, theirs = socket.socketpair()
        module = "thirdeye.server.engine.grammar.processes.source_main"
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=dict(os.environ) | {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"},  # noqa: TID251 (handed on)
                start_new_session=True,
            )
        with suppress(OSError):  # not everybody may
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            if sys.platform == "linux":  # an engine that gives way now will not always
                os.sched_setscheduler(process.pid, os.SCHED_OTHER, os.sched_param(0))
        try:
            ours.settimeout(wire.MAX_SECONDS)
            given = self._compiler().given
            body = msgspec.msgpack.encode(
                SentVocabulary(
                    list(given.tokens), list(given.special_token_ids), list(given.eos_token_ids)
                )
            )
            wire.ask(ours, given.encode, wire.GRAMMAR, body)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        self._source = process, ours
        return self._source
