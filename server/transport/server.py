"""The server process: one listening socket, and a shutdown that lets answers end.

First SIGTERM or SIGINT: for the drain's delay `/ready` says 503 and all is served. Then new
requests get 503 while the listener stays open, and answers in flight go on to their `[DONE]`, up
to the drain's time limit. At that limit, or at a second signal, what is left ends at once with an
error its client can read. The exit code is 0 either way, also while the model is loading. uvicorn
alone would close the listener at once and leave with the signal's number.
"""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from thirdeye.server.api.state.server_state import Phase
from thirdeye.server.transport.connection_guard import GuardedProtocol
from thirdeye.server.transport.lifecycle import Lifecycle
from thirdeye.server.transport.shutdown import end_answers, until_idle

DRAIN_SECONDS = 30.0
LAST_WORDS_SECONDS = 0.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("thirdeye.serve")


class CannotListen(OSError):
    """The address is taken, or none of this machine's; the text names the flag that helps."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        flag = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise CannotListen(
            f"Cannot listen on {host}:{port} ({error.strerror}): choose another with {flag}."
        ) from error
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket) -> str:
    """`http://127.0.0.1:8000`, with the port that was really taken."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, and with a clock that ticks once a second.

    uvicorn's ticks ten times: that is all an idle server would do.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # 0: a tick that renews the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), 1.0)

    def leave(self) -> None:
        """Close the listener and the connections; the answers in flight have ended."""
        self.should_exit = True
        self._leaving.set()


def make_server(app: FastAPI, protocol: type[GuardedProtocol], root_path: str) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http=protocol,
            root_path=root_path,
            ws="none",
            lifespan="on",
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
    )


async def serve(
    app: FastAPI,
    state: Lifecycle,
    sock: socket.socket,
    *,
    drain_seconds: float = DRAIN_SECONDS,
    drain_delay: float = 0.0,
    load: Callable[[], Coroutine[Any, Any, None]] | None = None,
    protocol: type[GuardedProtocol] = GuardedProtocol,
    root_path: str = "",
    on_hangup: Callable[[], None] | None = None,
) -> None:
    """Serve on `sock` until a signal, then drain and close the state's engine.

    `load` runs beside the server: it makes the state ready, and may go on to look after the engine.
    It is cancelled when the drain begins. If it raises, the server stops and the exception comes
    out here. `on_hangup` is called on SIGHUP, which otherwise ends the process.
    """
    server = make_server(app, protocol, root_path)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await _until_started(server, serving)
        if serving.done():
            return await serving
        loading = asyncio.create_task(load() if load else asyncio.sleep(0))
        await _first(serving, stop.wait(), _failure_of(loading))
        if drain_delay and state.phase is Phase.READY and _failed(loading) is None:
            logger.info(
                "leaving in %g s: /ready says 503, requests are served until then", drain_delay
            )
            state.withdraw()
            await _first(serving, hurry.wait(), _failure_of(loading), timeout=drain_delay)
        loading.cancel()
        await asyncio.sleep(0)  # a restart that is under way ends before the state is looked at
        if error := _failed(loading):
            state.fail(str(error))
        await _drain(state, server, serving, hurry, drain_seconds)
        await _first(_close_engine(state, loading), hurry.wait())
        if error := _failed(loading):
            raise error
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        if on_hangup is not None:
            loop.remove_signal_handler(signal.SIGHUP)


async def _until_started(server: Server, serving: "asyncio.Task[None]") -> None:
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)


async def _failure_of(task: "asyncio.Task[None]") -> None:
    """Returns when the task has failed; never, if it ends well."""
    await asyncio.wait([task])
    if task.cancelled() or task.exception() is None:
        await asyncio.Event().wait()


def _failed(task: "asyncio.Task[None]") -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


async def _drain(
    state: Lifecycle,
    server: Server,
    serving: "asyncio.Task[None]",
    hurry: asyncio.Event,
    seconds: float,
) -> None:
    """Let answers in flight end, then close the listener and the connections."""
    if state.phase is not Phase.FAILED:
        state.drain()
        num_open = state.in_flight
        logger.info("shutting down: %d answers in flight, signal again to cut them", num_open)
    await _first(until_idle(state), hurry.wait(), timeout=seconds)
    if state.in_flight:
        await _first(end_answers(state), timeout=LAST_WORDS_SECONDS)
    state.streams.cut()  # timelines too, which are no answers and never end by themselves
    server.leave()
    await _first(serving, _after(hurry, LAST_WORDS_SECONDS))
    if not serving.done():
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # each cut leaves its stack
        server.force_exit = True
    await serving


async def _after(event: asyncio.Event, seconds: float) -> None:
    await event.wait()
    await asyncio.sleep(seconds)


async def _close_engine(state: Lifecycle, loading: "asyncio.Task[None]") -> None:
    """Leave no engine behind, neither the one that serves nor one that is being loaded."""
    await state.close_engine()
    await asyncio.wait([loading])


async def _first(
    *things: "asyncio.Task[None] | Coroutine[Any, Any, Any]", timeout: float | None = None
) -> None:
    """Wait until one of the things is done; what we started ourselves is cancelled."""
    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, thing in zip(tasks, things, strict=True):
            if task is not thing:
                task.cancel()
