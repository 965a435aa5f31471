"""`thirdeye rank`: this host's part of a model that a server on another host serves.

It joins rank 0, runs the rank in a process of its own, and joins again when that has ended: an
engine that dies is replaced, and the next one waits for its ranks as the first did.
"""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from thirdeye.server.engine.distributed.handshake import Credentials, NotJoined, ask_to_join
from thirdeye.server.engine.distributed.rank_listener import HostAddress
from thirdeye.server.launch.console import fail, say
from thirdeye.server.launch.spawner import engine_environment
from thirdeye.server.load.other_hosts import read_secret
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.resolve import resolve_model

AGAIN = 1.0  # seconds between two attempts to find rank 0
CONNECT_TIMEOUT = 10.0  # seconds


def run_rank(model: str | None, join: str, secret_file: str) -> int:
    """The exit status: 0 once SIGINT or SIGTERM ends it, 1 if it can never join."""
    try:
        leader = HostAddress.parse(join)
        path = resolve_model(model)
        credentials = Credentials.of(
            read_secret(Path(secret_file)), open_checkpoint(path).fingerprint
        )
    except (ModelError, OSError, ValueError) as error:
        return fail(f"'--join' {error}." if "HOST:PORT" in str(error) else str(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            serve_once(str(path), leader, credentials)
    except NotJoined as why:
        return fail(f"{leader} does not take this rank: {why}")
    except KeyboardInterrupt:
        say("this rank has ended")
        return 0


def serve_once(model_path: str, leader: HostAddress, credentials: Credentials) -> None:
    """One life of a rank, from joining to its end. Raises `NotJoined`."""
    say(f"looking for rank 0 at {leader}")
    with connect(leader) as sock:
        try:
            ask_to_join(sock, credentials)
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            say(f"{leader} has not answered as a rank 0 does ({type(error).__name__})")
            time.sleep(AGAIN)
            return
        say(f"joined {leader}, loading")
        process = start_rank(model_path, sock)
    try:
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    say("rank 0 has ended" if code == 0 else f"the rank has ended with code {code}, see its log")
    time.sleep(AGAIN if code else 0)


def connect(leader: HostAddress) -> socket.socket:
    """As soon as somebody listens there. Says why nobody does, once for each reason: a name that is
    misspelled would be looked for in silence."""
    told = ""
    while True:
        try:
            return socket.create_connection((leader.host, leader.port), CONNECT_TIMEOUT)
        except OSError as error:
            why = error.strerror or str(error)
        if why != told:
            say(f"nobody answers at {leader} yet ({why}), it is asked again every second")
            told = why
        time.sleep(AGAIN)


def start_rank(model_path: str, sock: socket.socket) -> "subprocess.Popen[bytes]":
    """Its process, which has the socket from now on."""
    sock.settimeout(None)  # what the child inherits is the descriptor's own mode
    fd = sock.fileno()
    argv = [sys.executable, "-P", "-m", "thirdeye.server.load.rank_main", model_path, str(fd)]
    return subprocess.Popen(argv, env=engine_environment(), pass_fds=[fd], stdin=subprocess.DEVNULL)
