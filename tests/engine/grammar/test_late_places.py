"""Grammars that are followed elsewhere, in the engine: no answer shows how late its masks were.

The same grammars as in `test_grammar.py` over the toy model; each place is there after so many
looks, whatever else runs. And the loop: it waits for a descriptor where nothing else is to do.
"""

import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.grammar.test_grammar import (
    TIGHT,
    all_requests,
    constrained,
    ends,
    expected_ends,
    speculating_core,
)
from tests.engine.grammar.toy_grammars import TOKENS, ImmediateExecutor, guidance, text_of
from tests.engine.run_ahead.engines import Late, toy_ahead
from tests.engine.toy import (
    EOS,
    ToyCache,
    ToyModel,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_core,
)
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.thinking_matcher import ThinkingVocabulary
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import CompileGrammar, Matcher
from thirdeye.server.engine.interface.types import FinishReason, StepOutput, Thinking
from thirdeye.server.engine.process.engine_loop import run_loop
from thirdeye.server.engine.process.inbox import Inbox
from thirdeye.server.engine.process.messages import Add, Step, Stop
from thirdeye.server.text.constraints import constraint as grammar


class Elsewhere:
    """A matcher whose places are there after some looks."""

    def __init__(self, inner: Matcher, draw_looks: Callable[[], int]) -> None:
        self._inner, self._draw, self._looks = inner, draw_looks, 0
        self._told: Sequence[int] = []

    @property
    def late(self) -> "Elsewhere":
        return self

    def is_here(self) -> bool:
        self._looks -= self._looks > 0
        return not self._looks

    def fileno(self) -> int:
        raise AssertionError("nobody waits here")

    def follow(self, token_ids: Sequence[int]) -> None:
        if token_ids != self._told:
            assert not self._looks, "asked again before it is there"
            self._told, self._looks = list(token_ids), self._draw()
        self._inner.follow(token_ids)

    @property
    def is_over(self) -> bool:
        assert not self._looks, "asked before it is there"
        return self._inner.is_over

    def fill(self, mask: NDArray[np.int32]) -> None:
        assert not self._looks, "asked before it is there"
        self._inner.fill(mask)


def compiled_elsewhere(seed: int) -> CompileGrammar:
    chance, compiler = random.Random(seed), guidance()
    return lambda text, _: Elsewhere(compiler.compile(text), lambda: chance.choice([0, 1, 2, 9]))


def core_of(compile_grammar: CompileGrammar, config: EngineConfig) -> EngineCore:
    runner = ModelRunner(ToyModel(), ToyCache(config.num_blocks, config.block_size), config, "cpu")
    think = ThinkingVocabulary(TOKENS, [EOS]).matcher
    grammars = GrammarCompiler(compile_grammar, ImmediateExecutor(), think=think)
    return EngineCore(config, runner, grammars=grammars)


def drained(core: EngineCore, num_requests: int) -> dict[str, list[StepOutput]]:
    """Like `drain`, where a step may have nothing to compute: the masks are looked for again."""
    outputs: dict[str, list[StepOutput]] = {}
    num_ended = 0
    for _ in range(20_000):
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
            num_ended += output.finish_reason is not None
        if num_ended == num_requests and not core.has_work:
            return outputs
    raise AssertionError("the engine does not come to an end")


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"max_num_seqs": 1}, {"max_num_batched_tokens": 16}, TIGHT])
def test_each_answer_is_what_it_is_at_once(sizes: dict[str, object], is_ahead: bool) -> None:
    """Tokens and how it ends, in any batch, preempted, and where steps are launched ahead."""
    expected = expected_ends() | ends(run_all(toy_core(), [all_requests()[-1]]))
    config, compile_grammar = toy_config(**sizes), compiled_elsewhere(1)
    if is_ahead:
        core, _ = toy_ahead(config, stream=Late(), compile_grammar=compile_grammar)
    else:
        core = core_of(compile_grammar, config)
    for request in all_requests():
        core.add(request)
    assert ends(drained(core, len(all_requests()))) == expected
    assert core.stats().num_blocks_used == 0


def test_others_are_drafted_for_beside_it() -> None:
    requests = [constrained(grammar.lark('start: /[ab]{1,30}/ "."'), "late")]
    requests.append(make_request("free", max_tokens=40))
    expected = ends(run_all(core_of(guidance().compile, toy_config()), requests))
    texts = [[*r.prompt_token_ids, *expected[r.request_id][0]] for r in requests]
    core = speculating_core(texts, 0.3, compile_grammar=compiled_elsewhere(2))
    for request in requests:
        core.add(request)
    assert ends(drained(core, 2)) == expected
    assert core.stats().spec_decode_num_draft_tokens_total > 20


def test_thinking_first_is_the_same() -> None:
    """Its grammar is asked from where the thinking ends, or at once where there is none."""
    thinking = Thinking(open_ids=[2, 3], close_ids=[3, 2], max_tokens=5)
    for seed in range(20):
        request = make_request(f"{seed}", temperature=1.0, seed=seed, max_tokens=30)
        request = msgspec.structs.replace(
            request, grammar=grammar.lark('start: /[ab{}]{3,9}/ "."'), thinking=thinking
        )
        at_once = run_all(core_of(guidance().compile, toy_config()), [request])
        core = core_of(compiled_elsewhere(seed), toy_config())
        core.add(request)
        assert ends(drained(core, 1)) == ends(at_once)


class Told:
    """A place that is there once its socket has a byte; each makes one step."""

    def __init__(self, inner: Matcher) -> None:
        self._inner = inner
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self._is_here, self.num_looks = True, 0
        self._told: Sequence[int] = []

    @property
    def late(self) -> "Told":
        return self

    def is_here(self) -> bool:
        self.num_looks += 1
        if not self._is_here:
            try:
                self._is_here = bool(self.ours.recv(1))
            except BlockingIOError:
                return False
        return True

    def fileno(self) -> int:
        return self.ours.fileno()

    def follow(self, token_ids: Sequence[int]) -> None:
        if token_ids != self._told:
            self._told, self._is_here = list(token_ids), False
        self._inner.follow(token_ids)

    @property
    def is_over(self) -> bool:
        return self._inner.is_over

    def fill(self, mask: NDArray[np.int32]) -> None:
        self._inner.fill(mask)


@dataclass
class PatientInbox(Inbox):
    """Answers the one that waits when the loop does."""

    answer: Callable[[Sequence[int]], object]
    waited: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def wait(self, descriptors: Sequence[int] = (), seconds: float | None = None) -> bool:
        self.waited.append(len(descriptors))
        if descriptors:
            self.answer(descriptors)
        return super().wait(descriptors, seconds)


def test_the_loop_waits_for_the_descriptor_of_a_mask() -> None:
    """It takes no step that has nothing to do, and goes on when the mask is there. A request that
    has no row free waits with it."""
    made: list[Told] = []

    def compile_grammar(text: str, _tenant: str) -> Matcher:
        made.append(Told(guidance().compile(text)))
        return made[-1]

    core = core_of(compile_grammar, toy_config(max_num_seqs=1))
    inbox = PatientInbox(lambda _: made[0].theirs.send(b"+"))
    steps: list[Step] = []

    def emit(step: Step) -> None:
        steps.append(step)
        ended = [o for s in steps for o in s.outputs if o.finish_reason]
        if len(ended) == 2:
            inbox.put(Stop())

    request = constrained(grammar.lark('start: "[" "a" "]"'), "late")
    inbox.put(Add(request))
    inbox.put(Add(make_request("free", max_tokens=3, ignore_eos=True)))
    run_loop(core, inbox, emit)
    found: dict[str, list[StepOutput]] = {}
    for step in steps:
        for output in step.outputs:
            found.setdefault(output.request_id, []).append(output)
    assert text_of(tokens_of(found["late"])) == "[a]"
    assert found["late"][-1].finish_reason is FinishReason.STOP
    assert len(tokens_of(found["free"])) == 3
    assert inbox.waited == [0, 1, 1, 1, 0], "once for each of its tokens, and for work"
    assert len(steps) <= 3 + 3 + 3 + 1, "a step of each token, one that finds nothing, and Stop's"
    for told in made:
        told.ours.close()
        told.theirs.close()
