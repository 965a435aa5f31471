"""The process that tries grammars: one after the other, each within its seconds of a processor.

    -> length, seconds that it may take, grammar        <- whether it works, seconds it took

The kernel ends the process at that limit, and the allocator at `MAX_BYTES`; the other side sees the
end of the socket. It ends with its socket. Run by `trial_processes.py`.
"""

import os
import resource
import signal
import socket
import sys
import time
from struct import Struct

from thirdeye.server.text.constraints.trials.trial import can_begin_here

ASK, ANSWER = Struct(">Id"), Struct(">?d")
MAX_BYTES = 1 << 30  # of addresses, some 200 MB of which are there before the first grammar


def serve(sock: socket.socket) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with sock, sock.makefile("rb") as asked:
        while head := asked.read(ASK.size):
            size, seconds = ASK.unpack(head)
            grammar = asked.read(size).decode(errors="surrogatepass")
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles it: it ends the process
            found = can_begin_here(grammar)
            signal.setitimer(signal.ITIMER_PROF, 0)
            sock.sendall(ANSWER.pack(found, time.process_time() - began))


if __name__ == "__main__":
    os.nice(10)  # answers that run come first
    serve(socket.socket(fileno=int(sys.argv[-1])))
