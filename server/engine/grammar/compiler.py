"""Grammars on their way to matchers, beside the step and not in it.

    start -> compiled by one thread of the executor -> pop_ready, between two steps
          -> a caller's own: once there is a place, by a thread and in a process of its own

A request with a grammar is known to the scheduler at once and admitted when its matcher is here, so
what a large grammar costs is waited for by its own request alone, and by its tenant's: threads and
places take turns among tenants. It knows no queue of the scheduler's and no tensor.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from thirdeye.server.engine.interface.grammar_limits import is_of_a_caller
from thirdeye.server.engine.interface.grammar_protocol import (
    CompileGrammar,
    GrammarError,
    Matcher,
)
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.fair_executor import FairExecutor, TenantExecutor

logger = logging.getLogger(__name__)

CALLERS_THREADS = 2  # which wait for processes: one tenant has one of them

Held = TypeVar("Held", bound="Place")


class Place(Protocol):
    def give_back(self) -> None:
        """Also done when nobody has it any more."""


class CallersGrammars(Protocol[Held]):
    """Where grammars are followed whose rules are a caller's: so many at once, no more."""

    wake: Callable[[], None]  # called, by any thread, when there is a place again

    def take_place(self, tenant: str) -> Held | None:
        """None where there is none left for this tenant."""

    def num_places(self, tenant: str) -> int:
        """That it has taken."""

    def matcher(self, grammar: str, place: Held) -> Matcher:
        """At the grammar's start; it holds the place. Raises `GrammarError` or OSError."""


class GrammarCompiler:
    """`start`, `forget`, `has_ready` and `pop_ready` are for one thread: the engine's."""

    def __init__(
        self,
        compile_grammar: CompileGrammar,
        executor: TenantExecutor | None = None,
        *,
        think: Callable[[Request, Matcher | None], Matcher] | None = None,
        callers: CallersGrammars[Any] | None = None,
    ) -> None:
        """`executor` works on one grammar at a time; by default it is a thread of its own. `think`
        puts a request's thinking in front of its grammar, if it has one. Without `callers` those
        grammars are like all others."""
        self._compile = compile_grammar
        self._think = think
        self._executor = executor or FairExecutor(1, "engine-grammars")
        self._callers = callers
        self._callers_executor = FairExecutor(CALLERS_THREADS, "callers-grammars")
        self._waiting: dict[str, deque[Request]] = {}  # of each tenant, for a place
        if callers is not None:
            callers.wake = lambda: self.wake()
        self._under_way: dict[str, Future[Matcher]] = {}
        self._done: SimpleQueue[tuple[str, Future[Matcher]]] = SimpleQueue()
        self.wake: Callable[[], None] = lambda: None  # called, by any thread, when one is ready

    def start(self, request: Request) -> None:
        if self._callers is not None and is_of_a_caller(request.grammar):
            self._waiting.setdefault(request.tenant, deque()).append(request)
            self._start_waiting()
        else:
            self._submit(self._executor, request, self._compile)

    def _start_waiting(self) -> None:
        """The tenant with the fewest places goes first, and of equals the one that came first."""
        while self._waiting:
            assert self._callers is not None
            for tenant in sorted(self._waiting, key=self._callers.num_places):
                if (place := self._callers.take_place(tenant)) is not None:
                    break
            else:
                return
            compile_grammar = partial(_compile_there, self._callers, place)
            self._submit(self._callers_executor, self._pop_waiting(tenant), compile_grammar)
            del place, compile_grammar  # it is held by its matcher alone

    def _pop_waiting(self, tenant: str) -> Request:
        waiting = self._waiting.pop(tenant)
        request = waiting.popleft()
        if waiting:
            self._waiting[tenant] = waiting  # behind the others
        return request

    def _submit(
        self, executor: TenantExecutor, request: Request, compile_grammar: CompileGrammar
    ) -> None:
        request_id = request.request_id
        work = partial(self._matcher_for, request, compile_grammar)
        future = executor.submit(request.tenant, work)
        self._under_way[request_id] = future
        future.add_done_callback(lambda done: self._finish(request_id, done))

    def _matcher_for(self, request: Request, compile_grammar: CompileGrammar) -> Matcher:
        matcher = compile_grammar(request.grammar, request.tenant) if request.grammar else None
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
            return
        for tenant, waiting in self._waiting.items():
            left = deque(request for request in waiting if request.request_id != request_id)
            if len(left) < len(waiting):
                self._waiting[tenant] = left
                if not left:
                    del self._waiting[tenant]
                return

    @property
    def has_ready(self) -> bool:
        self._start_waiting()
        return not self._done.empty()

    def pop_ready(self) -> Iterator[tuple[str, Matcher | Exception]]:
        """Those that are ready, by request id, or why there is no matcher: a `GrammarError` is the
        grammar's fault, all else is ours."""
        while True:
            try:
                request_id, future = self._done.get_nowait()
            except Empty:
                return
            if self._under_way.get(request_id) is future:  # else it was forgotten meanwhile
                del self._under_way[request_id]
                yield request_id, _matcher_of(request_id, future)


def _compile_there(
    callers: CallersGrammars[Held], place: Held, grammar: str, _tenant: str
) -> Matcher:
    """The place knows whose it is."""
    try:
        return callers.matcher(grammar, place)
    except BaseException:
        place.give_back()  # what is raised keeps its frames until somebody looks for garbage
        raise


def _matcher_of(request_id: str, future: Future[Matcher]) -> Matcher | Exception:
    try:
        return future.result()
    except GrammarError as error:
        return error  # the caller's fault, who is told
    except Exception as error:
        logger.exception("request %s: its grammar could not be compiled", request_id)
        return error
