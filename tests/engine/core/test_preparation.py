"""What an engine makes while it has nothing to do: when that is, how often, and what if it fails.

No time passes: the inbox says how long it was to wait, and the test whether that went by.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import pytest

from tests.engine.grammar.toy_grammars import ImmediateExecutor, guidance
from tests.engine.toy import ToyCache, ToyModel, make_request, tokens_of, toy_config
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.preparation import Make
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.once import Once
from thirdeye.server.engine.interface.types import FinishReason, StepOutput
from thirdeye.server.engine.process.engine_loop import QUIET_SECONDS, run_loop
from thirdeye.server.engine.process.inbox import Inbox
from thirdeye.server.engine.process.messages import Abort, Add, Command, Step, Stop
from thirdeye.server.text.constraints import constraint as grammar

QUIET = "quiet"  # the time goes by without a word
TEXT = grammar.regex("ab")

Happening = str | Command


class Told(Inbox):
    """Whenever it is waited at, the next of what happens; `seen` is what the engine did."""

    def __init__(self, *happens: Happening) -> None:
        super().__init__()
        self._happens = list(happens)
        self.seen: list[str] = []

    def wait(self, descriptors: Sequence[int] = (), seconds: float | None = None) -> bool:
        assert not descriptors
        self.seen.append("waits" if seconds is None else "waits a little")
        assert seconds in (None, QUIET_SECONDS)
        happening = self._happens.pop(0)
        if isinstance(happening, str):
            assert seconds is not None, "it would wait for ever"
            return False
        self.put(happening)
        return True

    def makes(self, name: str) -> Make:
        return lambda: self.seen.append(name)

    def emit(self, step: Step) -> None:
        self.seen += ["a token"] * sum(len(output.token_ids) for output in step.outputs)


class NeverExecutor:
    """What it is given waits."""

    def submit(self, tenant: str, work: Callable[[], Any], /) -> Future[Any]:
        return Future()


def core_of(*prepare: Make, grammars: GrammarCompiler | None = None) -> EngineCore:
    config = toy_config()
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu")
    return EngineCore(config, runner, grammars=grammars, prepare=prepare)


def asks(name: str, serialized: str = "") -> Add:
    request = make_request(name, max_tokens=2, ignore_eos=not serialized)
    return Add(msgspec.structs.replace(request, grammar=serialized))


def test_one_thing_after_the_other_while_nobody_asks() -> None:
    inbox = Told(QUIET, QUIET, asks("a"), Stop())
    run_loop(core_of(inbox.makes("first"), inbox.makes("second")), inbox, inbox.emit)
    assert inbox.seen == [
        *("waits a little", "first", "waits a little", "second"),
        *("waits", "a token", "a token", "waits"),
    ]


def test_a_word_within_the_quiet_time_comes_first() -> None:
    """No thing is made between the steps of an answer, and the time begins anew behind it."""
    inbox = Told(asks("a"), QUIET, asks("b"), QUIET, Stop())
    run_loop(core_of(inbox.makes("first"), inbox.makes("second")), inbox, inbox.emit)
    assert inbox.seen == [
        *("waits a little", "a token", "a token", "waits a little", "first"),
        *("waits a little", "a token", "a token", "waits a little", "second", "waits"),
    ]


def test_an_answer_that_waits_for_its_grammar_is_no_idle_time() -> None:
    inbox = Told(asks("a", TEXT), Abort("a"), QUIET, Stop())
    grammars = GrammarCompiler(guidance().compile, NeverExecutor())
    run_loop(core_of(inbox.makes("it"), grammars=grammars), inbox, inbox.emit)
    assert inbox.seen == ["waits a little", "waits", "waits a little", "it", "waits"]


def test_an_engine_that_has_nothing_to_prepare_sleeps() -> None:
    inbox = Told(Stop())
    run_loop(core_of(), inbox, inbox.emit)
    assert inbox.seen == ["waits"]


@pytest.mark.parametrize("is_early", [True, False])
def test_a_grammar_makes_what_it_needs_where_there_was_no_time(is_early: bool) -> None:
    """And it is made once."""
    inbox = Told(*([asks("a", TEXT), QUIET] if is_early else [QUIET, asks("a", TEXT)]), Stop())
    made = Once(lambda: (inbox.seen.append("it"), guidance())[1])
    grammars = GrammarCompiler(lambda text, _: made().compile(text), ImmediateExecutor())
    run_loop(core_of(made, grammars=grammars), inbox, inbox.emit)
    answer = ["a token"] * inbox.seen.count("a token")
    assert answer
    if is_early:
        assert inbox.seen == ["waits a little", "it", *answer, "waits a little", "waits"]
    else:
        assert inbox.seen == ["waits a little", "it", "waits", *answer, "waits"]


def test_what_fails_is_told_once_and_made_by_who_needs_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inbox = Told(QUIET, asks("free"), asks("a", TEXT), Stop())
    num_tried, outputs = 0, list[StepOutput]()

    def make() -> Any:
        nonlocal num_tried
        num_tried += 1
        if num_tried == 1:
            raise OSError("the disk is away")
        return guidance()

    def emit(step: Step) -> None:
        outputs.extend(step.outputs)

    made = Once(make)
    grammars = GrammarCompiler(lambda text, _: made().compile(text), ImmediateExecutor())
    with caplog.at_level(logging.WARNING):
        run_loop(core_of(made, inbox.makes("more"), grammars=grammars), inbox, emit)
    assert inbox.seen == ["waits a little", "waits", "waits", "waits"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OSError: the disk is away" in caplog.text
    ends = {o.request_id: o.finish_reason for o in outputs if o.finish_reason}
    assert ends == {"free": FinishReason.LENGTH, "a": FinishReason.STOP}
    assert len(tokens_of([o for o in outputs if o.request_id == "free"])) == 2
    assert num_tried == 2


def test_waiting_ends_with_the_time_or_with_a_word() -> None:
    inbox = Inbox()
    assert inbox.wait(seconds=0) is False
    inbox.put(Stop())
    assert inbox.wait(seconds=60) is True
    assert inbox.take() == [Stop()]
