"""The engine process's own side of the pipe: load, say so, then loop until told to stop.

It never outlives the server: it ends when the socket ends, even in the middle of loading or of a
long step, and on Linux the kernel kills it should that thread not get to run. It ignores SIGINT and
SIGTERM: Ctrl-C reaches the whole process group, and when to stop is for the server to decide.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import assert_never

import msgspec

from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.engine_loop import run_loop
from thirdeye.server.engine.process.footprint import keep_step_buffers, unmap_used_code
from thirdeye.server.engine.process.frames import FrameReader, pack_frame
from thirdeye.server.engine.process.inbox import Inbox
from thirdeye.server.engine.process.messages import (
    Abort,
    Add,
    Fatal,
    FromEngine,
    Hello,
    Inspect,
    LoadAdapter,
    Progress,
    Ready,
    ResetPrefixCache,
    Stop,
    ToEngine,
    Uninspect,
    UnloadAdapter,
    Unwatch,
    Watch,
)
from thirdeye.server.engine.process.spawn import bind_to_parent
from thirdeye.server.garbage_collection import freeze_heap
from thirdeye.server.interpreter_lock import share_often
from thirdeye.server.oom_score import LOADING, SERVING, end_before_others

logger = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]  # phase, bytes done, in all
OnEnd = Callable[[str], object]
Load = Callable[[bytes, OnProgress, OnEnd], tuple[EngineCore, EngineInfo]]


def serve_engine(sock: socket.socket, load: Load) -> int:
    """The child's main: the exit code. `sock` is `socket.socket(fileno=int(sys.argv[-1]))`.

    `load` raises `EngineDead` with a text for whoever starts the server; any other exception is a
    bug, and its stack goes to the log. What it loads may call `OnEnd` from any thread, with a
    reason: the process ends there and then.
    """
    sock.set_inheritable(False)  # a grandchild that held it would hide this process's death
    bind_to_parent()
    end_before_others(LOADING)
    frames = FrameReader[ToEngine](msgspec.msgpack.Decoder(ToEngine))
    try:
        hello = frames.read(sock)
    except (EOFError, ConnectionError):
        return 0
    assert isinstance(hello, Hello), f"unexpected {hello!r}"
    inbox = Inbox()
    threading.Thread(
        target=_read_commands, args=(sock, frames, inbox), name="engine-inbox", daemon=True
    ).start()
    core = _load(sock, load, hello.recipe)
    end_before_others(SERVING)
    _shrink_footprint()
    return 0 if core is not None and _run(sock, core, inbox) else 1


def _load(sock: socket.socket, load: Load, recipe: bytes) -> EngineCore | None:
    """The engine, announced as ready; None, with the reason told, if it cannot be loaded."""
    try:
        core, info = load(
            recipe,
            lambda phase, done, total: _send(sock, Progress(phase, done, total)),
            lambda why: _end(sock, why),
        )
    except EngineDead as error:
        _send(sock, Fatal(str(error)))
        return None
    except Exception as error:
        logger.exception("the engine could not be loaded")
        _send(sock, Fatal(f"{type(error).__name__}: {error}"))
        return None
    _send(sock, Ready(info))
    return core


def _shrink_footprint() -> None:
    """Loading is over: what is there stays, and what it took on the way goes back to the system."""
    freeze_heap()
    share_often()
    keep_step_buffers()
    unmap_used_code()


def _run(sock: socket.socket, core: EngineCore, inbox: Inbox) -> bool:
    """Work until told to stop; False, with a word to the server, if the engine breaks before."""
    try:
        run_loop(core, inbox, lambda step: _send(sock, step))
    except EngineDead as error:  # the log has its story already
        _send(sock, Fatal(str(error)))
        return False
    except Exception:
        logger.exception("the engine died")
        _send(sock, Fatal("The engine has failed."))
        return False
    return True


def _send(sock: socket.socket, message: FromEngine) -> None:
    """Write one frame; waits while the server is behind, and ends where the server has."""
    try:
        sock.sendall(pack_frame(message))
    except ConnectionError:
        os._exit(0)


def _end(sock: socket.socket, why: str) -> None:
    """End at once, whatever the main thread is in the midst of: it may wait for ever. A server that
    cannot take the reason now sees the end of the socket."""
    logger.error("the engine ends: %s", why)
    with contextlib.suppress(OSError):
        sock.send(pack_frame(Fatal(why)), socket.MSG_DONTWAIT)
    os._exit(1)


def _read_commands(sock: socket.socket, frames: FrameReader[ToEngine], inbox: Inbox) -> None:
    """Always reading, so that the server's writes never wait for a step."""
    try:
        while True:
            match frames.read(sock):
                case (
                    Add()
                    | Abort()
                    | Inspect()
                    | Uninspect()
                    | Watch()
                    | Unwatch()
                    | ResetPrefixCache()
                    | LoadAdapter()
                    | UnloadAdapter()
                    | Stop()
                ) as command:
                    inbox.put(command)
                case Hello():
                    raise AssertionError("a second Hello")
                case other:
                    assert_never(other)
    except (EOFError, ConnectionError):
        os._exit(0)  # the server is gone; the main thread may be deep in a step
