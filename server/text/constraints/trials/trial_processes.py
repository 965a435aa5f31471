"""Grammars of strangers are tried where it can be ended: in processes of their own, kept warm.

What takes too long, or too much memory, costs its process, and the next grammar gets another. A
budget is for one request: a tool's schema is one of many.
"""

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.constraints.trials.schema_grammar import SchemaForm
from thirdeye.server.text.constraints.trials.trial_main import (
    ANSWER,
    ASK,
    GRAMMAR,
    HELLO,
    RULES,
)

NICE = 10  # answers that run come first


@dataclass(frozen=True, slots=True)
class TrialProcess:
    pid: int
    sock: socket.socket

    @property
    def is_alive(self) -> bool:
        """It says nothing but answers, so what there is to read is its end."""
        return not select.select([self.sock], [], [], 0)[0]


class Tried(NamedTuple):
    works: bool
    text: str  # of a caller's rules or schema: what they come to, or what is wrong with them
    seconds: float  # of a processor, that it took


class TooCostly(ConstraintError):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"takes more than {seconds * 1000:.0f} ms to compile: simplify it.")


class TrialProcesses:
    """As many as threads use it at once. Each ends with its socket, and so with this process."""

    def __init__(self) -> None:
        self._idle: deque[TrialProcess] = deque()  # whose methods are atomic
        self._source: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._starting = threading.Lock()

    def ask(self, kind: bytes, text: str, seconds: float) -> Tried | None:
        """None if it took its process along. Raises OSError if none can be started."""
        process = self._take()
        found = _ask(process.sock, kind, text, seconds)
        if found is None:
            process.sock.close()
        else:
            self._idle.append(process)
        return found

    def _take(self) -> TrialProcess:
        while self._idle:
            try:
                process = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if process.is_alive:
                return process
            process.sock.close()  # somebody ended it: not the grammar's fault
        return self._start()

    def _start(self) -> TrialProcess:
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._starting:
                self._send(theirs)
            hello = ours.recv(HELLO.size, socket.MSG_WAITALL)
            if len(hello) < HELLO.size:
                raise ChildProcessError("no process could be forked")
        except BaseException:
            ours.close()
            raise
        (pid,) = HELLO.unpack(hello)
        return TrialProcess(pid, ours)

    def _send(self, theirs: socket.socket) -> None:
        process, sock = self._source or self._start_source()
        if process.poll() is not None:  # somebody ended it
            sock.close()
            process, sock = self._start_source()
        socket.send_fds(sock, [b"+"], [theirs.fileno()])

    def _start_source(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """In a session of its own: Ctrl-C is not for it. It ends with our end of the socket."""
        ours, theirs = socket.socketpair()
        module = "thirdeye.server.text.constraints.trials.trial_main"
        with theirs:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=dict(os.environ) | {"PYTHONSAFEPATH": "1"},  # noqa: TID251 (handed on)
                    start_new_session=True,
                )
                with contextlib.suppress(OSError):  # not everybody may
                    os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            except BaseException:
                ours.close()
                raise
        self._source = process, ours
        return self._source

    def close(self) -> None:
        """Those that work end with what they are at."""
        while self._idle:
            self._idle.pop().sock.close()
        if self._source is not None:
            process, sock = self._source
            sock.close()
            process.wait()
            self._source = None


@cache
def shared_processes() -> TrialProcesses:
    """Those of this process, for all who compile in it."""
    processes = TrialProcesses()
    atexit.register(processes.close)
    return processes


class Budget:
    """What the trials of one request may take together: a `Trier`."""

    def __init__(self, processes: TrialProcesses, seconds: float) -> None:
        self._processes, self._seconds = processes, seconds
        self.spent = 0.0

    def can_begin(self, grammar: str) -> bool:
        """Raises `TooCostly`."""
        return self._try(GRAMMAR, grammar).works

    def rules_of(self, text: str) -> tuple[str, str]:
        """Raises `TooCostly`."""
        found = self._try(RULES, text)
        return (found.text, "") if found.works else ("", found.text)

    def schema_grammar(self, text: str, form: SchemaForm) -> tuple[str, list[str]]:
        """Raises `TooCostly`, and `ConstraintError` as `schema_grammar_here` does."""
        found = self._try(form.value.encode(), text)
        if not found.works:
            raise ConstraintError(*json.loads(found.text))
        grammar, left_out = json.loads(found.text)
        return grammar, left_out

    def _try(self, kind: bytes, text: str) -> Tried:
        left = self._seconds - self.spent
        found = self._processes.ask(kind, text, left) if left > 0 else None
        if found is None:
            self.spent = self._seconds
            raise TooCostly(self._seconds)
        self.spent += found.seconds
        return found


def _ask(sock: socket.socket, kind: bytes, text: str, seconds: float) -> Tried | None:
    asked = text.encode(errors="surrogatepass")
    try:
        sock.sendall(ASK.pack(kind, len(asked), seconds) + asked)
        with sock.makefile("rb") as answer:
            head = answer.read(ANSWER.size)
            if len(head) < ANSWER.size:
                return None
            works, took, size = ANSWER.unpack(head)
            told = answer.read(size)
    except ConnectionError:
        return None
    return Tried(works, told.decode(errors="surrogatepass"), took) if len(told) == size else None
