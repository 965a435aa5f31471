"""Grammars on their way to matchers, beside the step and not in it.

    start -> compiled by one thread of the executor -> pop_ready, between two steps

A request with a grammar is known to the scheduler at once and admitted when its matcher is here, so
what a large grammar costs is waited for by its own request alone. It knows no queue and no tensor.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from thirdeye.server.engine.interface.grammar_protocol import CompileGrammar, Matcher
from thirdeye.server.engine.interface.types import Request

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


class GrammarCompiler:
    """`start`, `forget`, `has_ready` and `pop_ready` are for one thread: the engine's."""

    def __init__(
        self,
        compile_grammar: CompileGrammar,
        executor: Executor | None = None,
        *,
        think: Callable[[Request, Matcher | None], Matcher] | None = None,
    ) -> None:
        """`executor` works on one grammar at a time; by default it is a thread of its own. `think`
        puts a request's thinking in front of its grammar, if it has one."""
        self._compile = compile_grammar
        self._think = think
        self._executor = executor or ThreadPoolExecutor(1, "engine-grammars")
        self._under_way: dict[str, Future[Matcher]] = {}
        self._done: SimpleQueue[tuple[str, Future[Matcher]]] = SimpleQueue()
        self.wake: Callable[[], None] = lambda: None  # called, by any thread, when one is ready

    def prepare(self, work: Callable[[], Made]) -> Future[Made]:
        """Do what the first grammar needs, in the thread that compiles it and before it."""
        return self._executor.submit(work)

    def start(self, request: Request) -> None:
        request_id = request.request_id
        future = self._executor.submit(self._matcher_for, request)
        self._under_way[request_id] = future
        future.add_done_callback(lambda done: self._finish(request_id, done))

    def _matcher_for(self, request: Request) -> Matcher:
        inner = self._compile(request.grammar) if request.grammar else None
        if request.thinking is not None:
            assert self._think is not None, "this engine has no vocabulary to think in"
            return self._think(request, inner)
        assert inner is not None, "a request without a grammar needs no matcher"
        return inner

    def _finish(self, request_id: str, future: Future[Matcher]) -> None:
        if not future.cancelled():
            self._done.put((request_id, future))
            self.wake()

    def forget(self, request_id: str) -> None:
        """Nobody waits for it any more; unknown ids are ignored."""
        future = self._under_way.pop(request_id, None)
        if future is not None:
            future.cancel()

    @property
    def has_ready(self) -> bool:
        return not self._done.empty()

    def pop_ready(self) -> Iterator[tuple[str, Matcher | None]]:
        """Those that are ready, by request id; None for one that could not be compiled."""
        while True:
            try:
                request_id, future = self._done.get_nowait()
            except Empty:
                return
            if self._under_way.get(request_id) is future:  # else it was forgotten meanwhile
                del self._under_way[request_id]
                yield request_id, _matcher_of(request_id, future)


def _matcher_of(request_id: str, future: Future[Matcher]) -> Matcher | None:
    try:
        return future.result()
    except Exception:
        logger.exception("request %s: its grammar could not be compiled", request_id)
        return None
