"""Grammars on their way to matchers, beside the step and not in it.

    start -> compiled by one thread of the executor -> pop_ready, between two steps
          -> a caller's own: once there is a place, by a thread and in a process of its own

A request with a grammar is known to the scheduler at once and admitted when its matcher is here, so
what a large grammar costs is waited for by its own request alone. It knows no queue and no tensor.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from thirdeye.server.engine.interface.grammar_limits import is_of_a_caller
from thirdeye.server.engine.interface.grammar_protocol import (
    CompileGrammar,
    GrammarError,
    Matcher,
)
from thirdeye.server.engine.interface.types import Request

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


class CallersGrammars(Protocol):
    """Where grammars are followed whose rules are a caller's: so many at once, no more."""

    wake: Callable[[], None]  # called, by any thread, when there is a place again

    def take_place(self) -> object | None:
        """To be held until `matcher` has returned; None where there is none left."""

    def matcher(self, grammar: str) -> Matcher:
        """At the grammar's start. Raises `GrammarError` or OSError."""


class GrammarCompiler:
    """`start`, `forget`, `has_ready` and `pop_ready` are for one thread: the engine's."""

    def __init__(
        self,
        compile_grammar: CompileGrammar,
        executor: Executor | None = None,
        *,
        think: Callable[[Request, Matcher | None], Matcher] | None = None,
        callers: CallersGrammars | None = None,
    ) -> None:
        """`executor` works on one grammar at a time; by default it is a thread of its own. `think`
        puts a request's thinking in front of its grammar, if it has one. Without `callers` those
        grammars are like all others."""
        self._compile = compile_grammar
        self._think = think
        self._executor = executor or ThreadPoolExecutor(1, "engine-grammars")
        self._callers = callers
        self._callers_executor = ThreadPoolExecutor(1, "callers-grammars")
        self._waiting: deque[Request] = deque()  # for a place
        if callers is not None:
            callers.wake = lambda: self.wake()
        self._under_way: dict[str, Future[Matcher]] = {}
        self._done: SimpleQueue[tuple[str, Future[Matcher]]] = SimpleQueue()
        self.wake: Callable[[], None] = lambda: None  # called, by any thread, when one is ready

    def prepare(self, work: Callable[[], Made]) -> Future[Made]:
        """Do what the first grammar needs, in the thread that compiles it and before it."""
        return self._executor.submit(work)

    def start(self, request: Request) -> None:
        if self._callers is not None and is_of_a_caller(request.grammar):
            self._waiting.append(request)
            self._start_waiting()
        else:
            self._submit(self._executor, request, self._compile)

    def _start_waiting(self) -> None:
        while self._waiting:
            assert self._callers is not None
            place = self._callers.take_place()
            if place is None:
                return
            compile_grammar = partial(_compile_there, self._callers, place)
            self._submit(self._callers_executor, self._waiting.popleft(), compile_grammar)

    def _submit(
        self, executor: Executor, request: Request, compile_grammar: CompileGrammar
    ) -> None:
        request_id = request.request_id
        future = executor.submit(self._matcher_for, request, compile_grammar)
        self._under_way[request_id] = future
        future.add_done_callback(lambda done: self._finish(request_id, done))

    def _matcher_for(self, request: Request, compile_grammar: CompileGrammar) -> Matcher:
        matcher = compile_grammar(request.grammar) if request.grammar else None
        if request.thinking is not None:
            assert self._think is not None, "this engine has no vocabulary to think in"
            matcher = self._think(request, matcher)
        assert matcher is not None, "a request without a grammar needs no matcher"
        with suppress(GrammarError):  # the first step meets it again, and says so
            matcher.follow(request.answer_token_ids)
        return matcher

    def _finish(self, request_id: str, future: Future[Matcher]) -> None:
        if not future.cancelled():
            self._done.put((request_id, future))
            self.wake()

    def forget(self, request_id: str) -> None:
        """Nobody waits for it any more; unknown ids are ignored."""
        future = self._under_way.pop(request_id, None)
        if future is not None:
            future.cancel()
        elif any(request.request_id == request_id for request in self._waiting):
            self._waiting = deque(r for r in self._waiting if r.request_id != request_id)

    @property
    def has_ready(self) -> bool:
        self._start_waiting()
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


def _compile_there(callers: CallersGrammars, place: object, grammar: str) -> Matcher:
    matcher = callers.matcher(grammar)
    del place  # which the matcher holds itself, from here on
    return matcher


def _matcher_of(request_id: str, future: Future[Matcher]) -> Matcher | None:
    try:
        return future.result()
    except GrammarError:
        return None  # the caller's fault, who is told
    except Exception:
        logger.exception("request %s: its grammar could not be compiled", request_id)
        return None
