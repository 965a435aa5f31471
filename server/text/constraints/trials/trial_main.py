"""The processes that try grammars: one after the other, each within its seconds of a processor.

    -> what it is, length, seconds that it may take, text
    <- whether it works, seconds it took, length, text: of a caller's rules, of a schema's grammar
       and what it leaves out, or of what is wrong

The kernel ends the process at that limit, and the allocator at `MAX_BYTES`; the other side sees the
end of the socket. Each says its id first, and ends with its socket. They are forked from one that
has imported all it takes, by a socket that is sent to it: to start one anew takes the server's
process milliseconds, in which no stream of it is served. Run by `trial_processes.py`.
"""

import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from struct import Struct

from thirdeye.server.text.constraints.lark_rules import rules_here
from thirdeye.server.text.constraints.trials.compiled import can_begin_here
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.constraints.trials.schema_grammar import SchemaForm, schema_grammar_here

HELLO, ASK, ANSWER = Struct(">I"), Struct(">cId"), Struct(">?dI")
GRAMMAR, RULES = b"g", b"r"
MAX_BYTES = 1 << 30  # of addresses, some 200 MB of which are there before the first grammar


def serve_source(sock: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        asked, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        if not asked:
            return
        with socket.socket(fileno=descriptors[0]) as own, suppress(OSError):  # the other side: no
            if os.fork() == 0:
                sock.close()
                resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
                with suppress(ConnectionError, MemoryError):  # whoever asked has gone, or too much
                    serve(own)
                os._exit(0)


def serve(sock: socket.socket) -> None:
    sock.sendall(HELLO.pack(os.getpid()))
    with sock, sock.makefile("rb") as asked:
        while head := asked.read(ASK.size):
            kind, size, seconds = ASK.unpack(head)
            given = asked.read(size).decode(errors="surrogatepass")
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles it: it ends the process
            works, told = tried(kind, given)
            signal.setitimer(signal.ITIMER_PROF, 0)
            text = told.encode(errors="surrogatepass")
            sock.sendall(ANSWER.pack(works, time.process_time() - began, len(text)) + text)


def tried(kind: bytes, given: str) -> tuple[bool, str]:
    if kind == GRAMMAR:
        return can_begin_here(given), ""
    if kind == RULES:
        rules, why = rules_here(given)
        return not why, why or rules
    try:
        return True, json.dumps(schema_grammar_here(json.loads(given), SchemaForm(kind.decode())))
    except ConstraintError as error:
        return False, json.dumps([error.rule, error.path])


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[-1])) as given, suppress(ConnectionError):
        serve_source(given)
