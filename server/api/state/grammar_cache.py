"""Grammars for requests: compiled off the event loop, within limits, once for equal requests.

Nothing bounds what a compilation may take, so each is tried in a process that ends where its time
or its memory does (`text/constraints/trials`), and is refused then. What passes is compiled again
by the engine, beside the steps of everybody's answers. Callers take turns, and what is remembered
is a caller's own: how long a compilation takes would tell whether another asked for the same.
"""

import asyncio
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from thirdeye.server.api.requests.response_formats import Constraint, Kind
from thirdeye.server.errors import (
    InvalidRequest,
    ServerOverloaded,
    ServiceUnavailable,
    come_back_in,
)
from thirdeye.server.fair_cache import FairCache
from thirdeye.server.fair_executor import FairExecutor
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.constraints.trials.trial import trying_with
from thirdeye.server.text.constraints.trials.trial_processes import (
    Budget,
    TooCostly,
    TrialProcesses,
    shared_processes,
)

# Of a processor, not of the clock: a busy machine refuses nothing more. An agent's many tools take
# a tenth of it on an idle one.
COMPILE_SECONDS = 2.0
COMPILE_THREADS = 3  # of which one caller takes two at most
MAX_WAITING = 64  # of one caller, until they are compiled: they are not in the queue's count yet
MAX_CACHED = 256
MAX_CACHED_BYTES = 8 * 1024 * 1024


class CompileMetrics(Protocol):
    def grammar_compiled(self, seconds: float, is_too_slow: bool) -> None: ...


class Grammars:
    """Compiles, and remembers what compiled. The event loop's thread uses it."""

    def __init__(
        self,
        metrics: CompileMetrics,
        max_seconds: float = COMPILE_SECONDS,
        processes: TrialProcesses | None = None,
    ) -> None:
        self._metrics = metrics
        self._processes = processes or shared_processes()
        self._max_seconds = max_seconds
        self._threads = FairExecutor(COMPILE_THREADS, "grammar")
        self._cache = grammar_cache()
        self._waiting: Counter[str] = Counter()  # of each caller
        self._seconds = 0.0  # that one took, lately

    async def of(self, field: str, constraint: Constraint | None, caller: str) -> str:
        """The engine's grammar for what `field` asks; "" for nothing. Raises `InvalidRequest`."""
        if constraint is None:
            return ""
        return await self.compile(
            lambda: build(constraint),
            key=f"{constraint.kind} {constraint.source}",
            param=field + constraint.path,
            caller=caller,
        )

    async def compile(self, make: Callable[[], str], *, key: str, param: str, caller: str) -> str:
        """What `make` gives, or gave this caller for the same `key`. Raises `InvalidRequest` for
        `param`.

        `make` runs in a thread and may raise `ConstraintError`.
        """
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
        if (found := self._cache.get(caller, digest)) is not None:
            return found
        if self._waiting[caller] >= MAX_WAITING:
            raise self._too_many()
        self._waiting[caller] += 1
        try:
            future = self._threads.submit(caller, partial(self._timed, make))
            made, seconds = await asyncio.wrap_future(future)
        except TooCostly as error:
            self._metrics.grammar_compiled(self._max_seconds, True)
            raise refused(param, error) from None
        except ConstraintError as error:
            raise refused(param, error) from None
        except OSError as error:
            raise ServiceUnavailable(
                "The server cannot start a process to compile this grammar in. Please try again.",
                code="out_of_memory",
                headers=come_back_in(5),
            ) from error
        finally:
            self._waiting -= Counter([caller])
        is_too_slow = seconds > self._max_seconds
        self._metrics.grammar_compiled(seconds, is_too_slow)
        if is_too_slow:
            raise refused(param, TooCostly(self._max_seconds))
        self._seconds = 0.9 * self._seconds + 0.1 * seconds
        self._cache.put(caller, digest, made)
        return made

    def _too_many(self) -> ServerOverloaded:
        """Come back when those that wait could be done, by all threads but the one for others."""
        seconds = max(math.ceil(MAX_WAITING * self._seconds / (COMPILE_THREADS - 1)), 1)
        return ServerOverloaded(
            f"{MAX_WAITING} grammars of this caller's requests wait to be compiled. Try again in "
            f"{seconds} s.",
            code="rate_limit_exceeded",
            headers=come_back_in(seconds),
        )

    def _timed(self, make: Callable[[], str]) -> tuple[str, float]:
        """What `make` gives, and the seconds of a processor that it took, here and there."""
        budget = Budget(self._processes, self._max_seconds)
        started = time.thread_time()
        with trying_with(budget):
            made = make()
        return made, time.thread_time() - started + budget.spent


def grammar_cache() -> FairCache[bytes, str]:
    return FairCache(MAX_CACHED, MAX_CACHED_BYTES, lambda _, made: len(made))


def build(constraint: Constraint) -> str:
    """The grammar of a constraint. Raises `ConstraintError`."""
    source = constraint.source
    match constraint.kind:
        case Kind.JSON_OBJECT:
            return grammar.json_object()
        case Kind.JSON_SCHEMA:
            return grammar.json_schema(json.loads(source), is_closed=True)
        case Kind.REGEX:
            return grammar.regex(source)
        case Kind.CHOICE:
            return grammar.choice(json.loads(source))
        case Kind.LARK:
            return grammar.lark(source)
        case Kind.WITHOUT:
            return grammar.without(json.loads(source))
        case Kind.TOKENS:
            return grammar.of_tokens(json.loads(source))
        case Kind.SERIALIZED:
            return grammar.foreign(source)


def refused(param: str, error: ConstraintError) -> InvalidRequest:
    """`'response_format.json_schema.schema' at $.type must be …`"""
    where = f" at {error.path}" if error.path else ""
    return InvalidRequest(f"'{param}'{where} {error.rule}", param=param, code="invalid_schema")
