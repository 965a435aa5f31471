"""Grammars are compiled beside the steps: nobody but their own request waits for them.

The compiler here is a stub that a test holds back for as long as it likes; no clock decides.
"""

import asyncio
import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any
from unittest import mock

import msgspec
import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.engine.grammar.toy_grammars import ImmediateExecutor, guidance, text_of
from tests.engine.toy import (
    ToyCache,
    ToyModel,
    collect,
    drain,
    make_request,
    tokens_of,
    toy_config,
    toy_info,
    until,
)
from thirdeye.server.engine.core.engine_core import (
    GRAMMAR_FAILED,
    OUT_OF_MEMORY,
    STEP_FAILED,
    EngineCore,
)
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar import llguidance_matcher
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceMatcher
from thirdeye.server.engine.interface.grammar_protocol import (
    CompileGrammar,
    GrammarError,
    Matcher,
)
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason, Request
from thirdeye.server.engine.process.thread_engine import ThreadEngine
from thirdeye.server.text.constraints import constraint as grammar

AB = grammar.regex("ab")


class HeldBack:
    """Compiles when it is let go, and counts the grammars it was given."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.let_go = threading.Event()
        self.num_compiled = 0

    def __call__(self, serialized: str, tenant: str) -> LLGuidanceMatcher:
        self.started.set()
        assert self.let_go.wait(10)
        self.num_compiled += 1
        return guidance().compile(serialized, tenant)


def failing(error: Exception) -> CompileGrammar:
    def compile_grammar(serialized: str, tenant: str) -> Matcher:
        raise error

    return compile_grammar


def constrained(request_id: str = "constrained") -> Request:
    return msgspec.structs.replace(make_request(request_id), grammar=AB)


def core_with(compile_grammar: object) -> EngineCore:
    config = toy_config()
    runner = ModelRunner(ToyModel(), ToyCache(config.num_blocks, config.block_size), config, "cpu")
    return EngineCore(config, runner, grammars=GrammarCompiler(compile_grammar))  # type: ignore[arg-type]  # stubs


@pytest.fixture
def held() -> Iterator[HeldBack]:
    held = HeldBack()
    yield held
    held.let_go.set()


@contextmanager
def listening(core: EngineCore) -> Iterator[SimpleQueue[None]]:
    """What the core says when a grammar may be ready."""
    woken: SimpleQueue[None] = SimpleQueue()
    core.call_when_ready(lambda: woken.put(None))
    yield woken


def test_running_answers_go_on_while_a_grammar_compiles(held: HeldBack) -> None:
    """A hard grammar must not hold up the steps of others."""
    core = core_with(held)
    with listening(core) as woken:
        core.add(make_request("free", max_tokens=20, ignore_eos=True))
        core.add(constrained())
        assert held.started.wait(10)
        outputs = drain(core)
        assert len(tokens_of(outputs["free"])) == 20
        assert "constrained" not in outputs
        assert core.stats().num_requests_waiting == 1
        assert not core.has_work, "an engine that only waits for a grammar must sleep"
        held.let_go.set()
        woken.get(timeout=10)
    assert text_of(tokens_of(drain(core)["constrained"])) == "ab"
    assert core.stats().num_requests_waiting == 0


def test_later_requests_overtake_one_whose_grammar_is_not_ready(held: HeldBack) -> None:
    core = core_with(held)
    core.add(constrained())
    core.add(make_request("free"))
    assert drain(core).keys() == {"free"}


def test_an_abort_while_it_compiles_ends_it_at_once(held: HeldBack) -> None:
    """Its last output does not wait for the compiler, and what is compiled for nobody is dropped;
    one that the compiler had not begun is never compiled."""
    core = core_with(held)
    with listening(core) as woken:
        core.add(constrained("begun"))
        assert held.started.wait(10)
        core.add(constrained("queued"))
        core.abort("begun")
        core.abort("queued")
        outputs = drain(core)
        assert [o.finish_reason for o in outputs["begun"]] == [FinishReason.ABORT]
        assert [o.finish_reason for o in outputs["queued"]] == [FinishReason.ABORT]
        core.add(constrained("begun"))  # the same id again is another request
        held.let_go.set()
        woken.get(timeout=10)
        woken.get(timeout=10)
    assert text_of(tokens_of(drain(core)["begun"])) == "ab"
    assert held.num_compiled == 2


FAULTS: list[tuple[Exception, str, ErrorCode | None]] = [
    (GrammarError("too complex"), GRAMMAR_FAILED, ErrorCode.INVALID_GRAMMAR),
    (MemoryError(), OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY),
    (BlockingIOError(errno.EAGAIN, "no process"), OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY),
    (OSError(errno.EMFILE, "no descriptor"), OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY),
    (FileNotFoundError(errno.ENOENT, "no file"), STEP_FAILED, None),
    (ValueError("the model has changed since it was loaded"), STEP_FAILED, None),
]


@pytest.mark.parametrize(("error", "told", "code"), FAULTS, ids=lambda one: type(one).__name__)
def test_what_cannot_be_compiled_is_that_requests_error_alone(
    error: Exception, told: str, code: ErrorCode | None
) -> None:
    """And the grammar's fault only if it is: a vocabulary that cannot be read is ours."""
    core = core_with(failing(error))
    with listening(core) as woken:
        core.add(constrained())
        core.add(make_request("free"))
        woken.get(timeout=10)
    outputs = drain(core)
    (last,) = outputs["constrained"]
    assert (last.finish_reason, last.error) == (FinishReason.ERROR, told)
    assert last.error_code is code
    assert outputs["free"][-1].finish_reason is not FinishReason.ERROR


def test_a_sleeping_engine_wakes_for_its_grammar(held: HeldBack) -> None:
    """No other request has to come along; one that does is answered meanwhile."""

    async def main() -> None:
        engine = ThreadEngine(core_with(held), toy_info(toy_config()))
        waiting = asyncio.create_task(collect(engine, constrained()))
        await until(held.started.is_set, 10)
        assert tokens_of(await collect(engine, make_request("free")))
        assert not waiting.done()
        held.let_go.set()
        async with asyncio.timeout(10):
            assert text_of(tokens_of(await waiting)) == "ab"
        await engine.close()

    asyncio.run(main())


def test_closing_ends_what_waits_for_its_grammar(held: HeldBack) -> None:
    async def main() -> None:
        engine = ThreadEngine(core_with(held), toy_info(toy_config()))
        waiting = asyncio.create_task(collect(engine, constrained()))
        await until(held.started.is_set, 10)
        await engine.close()
        assert [o.finish_reason for o in await waiting] == [FinishReason.ABORT]

    asyncio.run(main())


def test_nobody_learns_what_another_tenant_had_compiled() -> None:
    """By the time it takes: each pays for the first one of its own, and for that one alone."""
    compiled, compiler = list[str](), guidance()

    def counted(tokenizer: LLTokenizer, serialized: str, **options: Any) -> LLMatcher:
        if tokenizer is compiler._tokenizer:  # a thread of another test may still be at work
            compiled.append(serialized)
        return LLMatcher(tokenizer, serialized, **options)

    with mock.patch.object(llguidance_matcher, "LLMatcher", counted):
        grammars = GrammarCompiler(compiler.compile, ImmediateExecutor())
        for number, tenant in enumerate(("one", "other", "one", "other")):
            grammars.start(msgspec.structs.replace(constrained(str(number)), tenant=tenant))
        assert [isinstance(found, Exception) for _, found in grammars.pop_ready()] == [False] * 4
    assert compiled == [AB, AB]
