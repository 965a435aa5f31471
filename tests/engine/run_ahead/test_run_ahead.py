"""Running ahead changes nothing that a client can see: every step is launched before the last one
is read, over any mix of arrivals, ends, aborts and preemptions, on a device that is as quick or as
slow as can be."""

import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec import structs
from numpy.typing import NDArray

from tests.engine.core.test_engine_core import FailsOnce
from tests.engine.grammar.test_grammar import GRAMMARS
from tests.engine.grammar.toy_grammars import grammar_core, guidance, text_of
from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of, rarely_seen
from tests.engine.run_ahead.engines import Late, toy_ahead
from tests.engine.toy import (
    EOS,
    ToyCache,
    ToyModel,
    drain,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_core,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.grammar_protocol import GrammarError
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason, Request, StepOutput
from thirdeye.server.engine.run_ahead.cuda_stream import (
    CpuStream,
    DeviceStream,
    PendingResult,
    ReadyResult,
    Work,
)
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate, SlotMasks
from thirdeye.server.engine.run_ahead.device_sampler import DeviceSampler
from thirdeye.server.engine.run_ahead.device_state import DeviceState
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.launcher import DeviceGuesses, Launcher
from thirdeye.server.engine.run_ahead.slot_table import SlotState, SlotTable
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan
from thirdeye.server.text.constraints import constraint as grammar

torch.set_num_threads(1)

MAX_ARRIVALS = 10
STREAMS = {"at once": CpuStream, "late": Late}


class AheadMachine(RuleBasedStateMachine):
    """Whatever happens to the others, a request's tokens are those it gets alone and in lockstep;
    if it is aborted, they are the first of these."""

    model: type[ToyModel] = ToyModel

    @initialize(
        block_size=st.sampled_from([1, 2, 4]),
        num_blocks=st.integers(4, 14),
        max_num_seqs=st.integers(1, 9),
        more_tokens=st.integers(0, 10),
        enable_prefix_caching=st.booleans(),
        num_draft_tokens=st.sampled_from([0, 0, 3]),
        stream=st.sampled_from(sorted(STREAMS)),
    )
    def start(
        self, block_size: int, num_blocks: int, max_num_seqs: int, more_tokens: int, stream: str,
        **more: object,
    ) -> None:  # fmt: skip
        self.config = toy_config(
            max_model_len=num_blocks * block_size,
            num_blocks=num_blocks,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_seqs + more_tokens,
            **more,
        )
        self.compile = guidance().compile
        order = STREAMS[stream]()
        proposer, guesses = self.make_guesser(order)
        self.core, self.launcher = toy_ahead(
            self.config,
            self.model(),
            order,
            compile_grammar=self.compile,
            proposer=proposer,
            guesses=guesses,
        )
        self.requests: dict[str, Request] = {}
        self.outputs: dict[str, list[StepOutput]] = {}

    def make_guesser(  # for others
        self, stream: DeviceStream
    ) -> tuple[Proposer | None, DeviceGuesses | None]:
        return None, None

    @precondition(lambda self: len(self.requests) < MAX_ARRIVALS)
    @rule(
        prompt=st.lists(st.integers(1, 2), min_size=1, max_size=10),
        max_tokens=st.integers(0, 12) | st.just(24),
        temperature=st.sampled_from([0.0, 0.8, 1.5]),
        top_p=st.sampled_from([1.0, 1.0, 0.7]),
        top_k=st.sampled_from([0, 0, 3]),
        min_p=st.sampled_from([0.0, 0.0, 0.05]),
        seed=st.integers(-(2**63), 2**64),
        frequency_penalty=st.sampled_from([0.0, 0.0, 0.7]),
        presence_penalty=st.sampled_from([0.0, 0.0, -0.3]),
        repetition_penalty=st.sampled_from([1.0, 1.0, 1.7]),
        penalty_window=st.sampled_from([-1, -1, -1, 1, 4]),
        logprobs=st.sampled_from([None, None, 0, 2]),
        prompt_logprobs=st.sampled_from([None, None, None, 0, 3]),
        min_tokens=st.sampled_from([0, 0, 0, 3]),
        stop_token_ids=st.sampled_from([[], [], [3, 5, 20]]),
        logit_bias=st.sampled_from([{}, {}, {}, {7: 1.5}, {EOS: 4, 3: 2.25, 12: -100}]),
        grammar=st.just("") | st.sampled_from([*GRAMMARS.values(), grammar.regex("c"), "{"]),
        ignore_eos=st.booleans(),
        priority=st.sampled_from([0, 0, 1]),
    )
    def add(self, prompt: list[int], priority: int, grammar: str, **sampling: object) -> None:
        self.add_request(prompt, priority, grammar, **sampling)

    def add_request(
        self, prompt: list[int], priority: int, grammar: str, **sampling: object
    ) -> None:
        name = str(len(self.requests))
        request = make_request(
            name, prompt[: self.config.max_model_len], priority=priority, **sampling
        )
        request = structs.replace(request, grammar=grammar)
        self.requests[name] = request
        self.core.add(request)

    @precondition(lambda self: self.requests)
    @rule(num_steps=st.integers(1, 8))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.take(self.core.step())

    @precondition(lambda self: self.requests)
    @rule(choice=st.integers(0, 3 * MAX_ARRIVALS))
    def abort(self, choice: int) -> None:
        self.core.abort(str(choice))

    def take(self, outputs: list[StepOutput]) -> None:
        for output in outputs:
            of_one = self.outputs.setdefault(output.request_id, [])
            assert not of_one or of_one[-1].finish_reason is None, "an output after the last"
            of_one.append(output)

    @invariant()
    def integrity(self) -> None:
        if hasattr(self, "core"):
            self.core._scheduler.check_integrity()
            self.launcher._slots.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        for name, outputs in drain(self.core).items():
            for output in outputs:
                self.take([output])
            assert name in self.requests
        assert self.outputs.keys() == self.requests.keys()
        for name, request in self.requests.items():
            self.check(request, self.outputs[name])
        stats = self.core.stats()
        assert (stats.num_blocks_used, stats.num_requests_running) == (0, 0)

    def check(self, request: Request, outputs: list[StepOutput]) -> None:
        config = structs.replace(self.config, num_draft_tokens=0)
        (expected,) = run_all(grammar_core(config, model=self.model()), [request]).values()
        reason = outputs[-1].finish_reason
        tokens, all_tokens = tokens_of(outputs), tokens_of(expected)
        if reason is FinishReason.ABORT:
            assert tokens == all_tokens[: len(tokens)]
            return
        assert (tokens, reason) == (all_tokens, expected[-1].finish_reason)
        assert logprobs_of(outputs) == logprobs_of(expected)
        assert prompt_logprobs_of(outputs) == prompt_logprobs_of(expected)
        assert outputs[-1].error == expected[-1].error


def logprobs_of(outputs: list[StepOutput]) -> list[object]:
    return [entry for output in outputs for entry in output.logprobs or []]


def prompt_logprobs_of(outputs: list[StepOutput]) -> list[object]:
    return [entry for output in outputs for entry in output.prompt_logprobs or []]


class TestAhead(AheadMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """15 runs of 15 rules, and 1,000 of 30 in `tests/prove`."""

    settings = settings(REPEATABLE, max_examples=15, stateful_step_count=15)


def plan_beyond_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence whose last token is pending is planned once more."""
    monkeypatch.setattr(Sequence, "is_due", True)


def keep_what_was_launched_at_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preempted sequence goes on where its launched steps would have ended."""
    preempt = Scheduler._preempt

    def mutant(self: Scheduler, sequence: Sequence) -> None:
        num_launched = sequence.num_launched_tokens
        preempt(self, sequence)
        sequence.num_launched_tokens = num_launched

    monkeypatch.setattr(Scheduler, "_preempt", mutant)


def take_in_what_came_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that came too late is taken in like any other."""
    finish = Scheduler._finish

    def mutant(self: Scheduler, sequence: Sequence, reason: Any, **more: Any) -> StepOutput:
        output = finish(self, sequence, reason, **more)
        sequence.status = SequenceStatus.RUNNING
        return output

    monkeypatch.setattr(Scheduler, "_finish", mutant)


def fill_buckets_with_old_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills a bucket is whatever stood there, not scrap."""
    choose = SlotTable.set_rows
    monkeypatch.setattr(
        SlotTable, "set_rows", lambda self, slots, bucket: choose(self, slots, len(slots))
    )


def tell_new_blocks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot's new owner gets only the blocks that its old owner had not."""
    tell = SlotTable._write_blocks

    def mutant(self: SlotTable, told: SlotState, row: PlanRow) -> None:
        told.num_blocks = told.num_blocks or (1,)
        tell(self, told, row)

    monkeypatch.setattr(SlotTable, "_write_blocks", mutant)


def read_where_the_next_step_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of a step is read from where the next one has already written its own."""

    def submit(self: CpuStream, work: Work) -> ReadyResult:
        with torch.inference_mode():
            return ReadyResult(work())

    monkeypatch.setattr(CpuStream, "submit", submit)


def sample_at_the_wrong_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a graph the noise is that of the token before."""
    choose = DeviceSampler.__call__
    monkeypatch.setattr(
        DeviceSampler,
        "__call__",
        lambda self, logits, slots, positions, *how, **more: choose(
            self, logits, slots, positions - 1, *how, **more
        ),
    )


def count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Penalties see the text as it was when the sequence came."""
    monkeypatch.setattr(DeviceState, "count_tokens", lambda self, slots, token_ids: None)


def ask_before_the_last_token_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask is that of the token before."""
    launch = Launcher.launch

    def mutant(self: Launcher, plan: StepPlan) -> LaunchedStep:
        step = launch(self, plan)
        self.sample(step)
        return step

    monkeypatch.setattr(Launcher, "launch", mutant)


def mask_the_wrong_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """SlotMasks go to slots in order, not to those of their rows."""
    apply = SlotMasks.apply

    def mutant(self: SlotMasks, told: MaskUpdate | None) -> None:
        if told is not None:
            told = MaskUpdate(torch.arange(len(told.slots)), told.words)
        apply(self, told)

    monkeypatch.setattr(SlotMasks, "apply", mutant)


def let_go_a_position_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of `min_tokens` may be an end."""
    monkeypatch.setattr(
        SlotState, "holds_back", lambda self, position: position + 1 < self.first_end
    )


def keep_the_last_owners_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    """All entries of a slot count, whoever told them."""
    monkeypatch.setattr(
        "thirdeye.server.engine.run_ahead.device_state.add_biases",
        lambda logits, token_ids, values, counts: logits.scatter_add(1, token_ids, values),
    )


PLANTED = [
    plan_beyond_the_last_token,
    rarely_seen(keep_what_was_launched_at_preemption),
    take_in_what_came_too_late,
    rarely_seen(fill_buckets_with_old_rows),
    tell_new_blocks_alone,
    read_where_the_next_step_writes,
    sample_at_the_wrong_position,
    count_nothing,
    ask_before_the_last_token_is_known,
    mask_the_wrong_slots,
    rarely_seen(let_go_a_position_too_early),
    rarely_seen(keep_the_last_owners_biases),
]
FOUND_BY = {  # seeds, see tests/engine/planted.py
    read_where_the_next_step_writes: 1,
    count_nothing: 6,
    ask_before_the_last_token_is_known: 6,
    mask_the_wrong_slots: 6,
}


@pytest.mark.parametrize("plant", PLANTED, ids=name_of)
def test_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test."""
    plant(monkeypatch)
    assert_finds_the_bug(AheadMachine, max_examples=500, num_steps=15, found_by=FOUND_BY.get(plant))


def mixed(seed: int, count: int, **sampling: object) -> list[Request]:
    chance = random.Random(seed)
    return [
        make_request(
            str(i),
            [chance.randrange(1, 40) for _ in range(chance.randint(1, 40))],
            max_tokens=chance.randint(1, 40),
            temperature=chance.choice([0.0, 0.8]),
            seed=chance.randrange(2**64),
            **sampling,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("stream", STREAMS)
def test_it_does_run_ahead(stream: str) -> None:
    """Guards the suite: in a steady state each step is launched before the last one is read, most
    steps are the decode step, preemption happens, and answers are those in lockstep."""
    requests = mixed(seed=1, count=12)
    config = toy_config(num_blocks=40, max_num_seqs=8)
    core, launcher = toy_ahead(config, stream=STREAMS[stream]())
    for request in requests:
        core.add(request)
    outputs: dict[str, list[StepOutput]] = {}
    num_ahead = 0
    while core.has_work:
        before = core._launched
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
        num_ahead += None not in (before, core._launched)
    assert core.stats().preemptions_total > 0
    assert launcher.num_decodes > 20
    assert num_ahead > 0.9 * launcher.num_launched
    expected = run_all(toy_core(config), requests)
    assert {n: tokens_of(o) for n, o in outputs.items()} == {
        n: tokens_of(o) for n, o in expected.items()
    }


def test_the_end_is_seen_one_step_late_and_what_came_after_it_discarded() -> None:
    """The step in flight computes a row too many; nothing of it reaches anybody."""
    for first in range(1, 40):
        request = make_request("eos", [first], max_tokens=50)
        if 2 < len(greedy_reference(request)) < 20:
            break
    seen: list[int] = []

    class Watched(ToyModel):
        def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
            seen.append(int(batch.positions[0]))
            return super().__call__(batch, kv_cache)

    core, _ = toy_ahead(model=Watched())
    (outputs,) = run_all(core, [request]).values()
    expected = greedy_reference(request)
    assert expected[-1] == EOS
    assert tokens_of(outputs) == expected
    assert max(seen) == len(expected)  # the position of EOS itself: one step too far
    assert core.stats().num_blocks_used == 0
    assert core.stats().generation_tokens_total == len(expected)


def test_no_step_is_wasted_where_the_end_is_known_in_advance() -> None:
    """`max_tokens` and a full context need no look at the token."""
    core, launcher = toy_ahead(toy_config(max_model_len=16))
    run_all(core, [make_request("a", max_tokens=6, ignore_eos=True)])
    assert launcher.num_launched == 6
    (outputs,) = run_all(
        core, [make_request("b", [5] * 10, max_tokens=90, ignore_eos=True)]
    ).values()
    assert len(tokens_of(outputs)) == 6
    assert outputs[-1].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("stream", STREAMS)
def test_a_failing_step_fails_its_batch_alone(stream: str) -> None:
    """Whether it fails when it is launched or when it is read; the next request is served."""
    core, _ = toy_ahead(model=FailsOnce(ValueError("secret")), stream=STREAMS[stream]())
    outputs = run_all(core, [make_request(str(i), [5] * 20) for i in range(3)])
    for of_one in outputs.values():
        assert [o.finish_reason for o in of_one] == [FinishReason.ERROR]
        assert "secret" not in (of_one[0].error or "")
    again = make_request("again", [5] * 20)
    assert tokens_of(run_all(core, [again])["again"]) == greedy_reference(again)
    assert core.stats().num_blocks_used == 0


class FailsAt(ToyModel):
    """Raises in one of its steps."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        self._left -= 1
        if self._left == 0:
            raise ValueError("here")
        return super().__call__(batch, kv_cache)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("step", [2, 3, 4])
def test_tokens_before_a_failure_are_told(stream: str, step: int) -> None:
    """Each request ends once, with the first of its tokens, and no slot or block is lost."""
    requests = [make_request(str(i), [5, i], max_tokens=20, ignore_eos=True) for i in range(3)]
    core, launcher = toy_ahead(model=FailsAt(step), stream=STREAMS[stream]())
    outputs = run_all(core, requests)
    for request in requests:
        of_one = outputs[request.request_id]
        tokens = tokens_of(of_one)
        assert len(tokens) == step - 1
        assert tokens == greedy_reference(request)[: len(tokens)]
        assert Counter(o.finish_reason for o in of_one)[FinishReason.ERROR] == 1
    again = mixed(seed=3, count=9)
    assert {n: tokens_of(o) for n, o in run_all(core, again).items()} == {
        n: tokens_of(o) for n, o in run_all(toy_core(), again).items()
    }
    launcher._slots.check_integrity()


class BrokenFor(ToyModel):
    """Says NaN wherever a sequence begins with 13."""

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        logits = super().__call__(batch, kv_cache)
        first = kv_cache.tokens[batch.block_table[:, 0].long() * kv_cache.block_size]
        logits[first == 13, 7] = torch.nan
        return logits


def test_nan_fails_that_request_alone() -> None:
    requests = [make_request("good", [5, 6], seed=3, temperature=0.9), make_request("bad", [13])]
    outputs = run_all(toy_ahead(model=BrokenFor())[0], requests)
    assert [(o.finish_reason, o.token_ids) for o in outputs["bad"]] == [(FinishReason.ERROR, [])]
    expected = run_all(toy_core(), requests[:1])["good"]
    assert tokens_of(outputs["good"]) == tokens_of(expected)


@pytest.mark.parametrize("stream", STREAMS)
def test_what_the_host_had_to_decide_leaves_the_loop_no_more(stream: str) -> None:
    """Biases, `min_tokens`, scored prompts and grammars: every step is launched, and each answer is
    that in lockstep."""
    config = toy_config(max_num_batched_tokens=20, max_num_seqs=8)
    requests = [
        *mixed(seed=2, count=4, logit_bias={3: 2.0}, min_tokens=8, logprobs=2),
        *mixed(seed=3, count=4, prompt_logprobs=3),
        *mixed(seed=4, count=4),
    ]
    grammars = ["", "", *GRAMMARS.values()]
    requests = [
        structs.replace(r, request_id=str(i), grammar=grammars[i % len(grammars)])
        for i, r in enumerate(requests)
    ]
    core, launcher = toy_ahead(config, None, STREAMS[stream](), compile_grammar=guidance().compile)
    said, expected = run_all(core, requests), run_all(grammar_core(config), requests)
    for name, outputs in expected.items():
        assert tokens_of(said[name]) == tokens_of(outputs)
        assert said[name][0].prompt_logprobs == outputs[0].prompt_logprobs
    assert launcher.num_refused == 0
    assert launcher.num_decodes > 20


@dataclass
class NotedResult:
    result: torch.Tensor
    notes: list[str]

    def wait(self) -> torch.Tensor:
        self.notes.append("read")
        return self.result


class Noted(CpuStream):
    """Notes what is submitted, and what is waited for."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def run(self, work: Callable[[], object]) -> None:
        self.notes.append("layers")
        super().run(work)

    def submit(self, work: Work) -> PendingResult:
        self.notes.append("choice")
        return NotedResult(super().submit(work).wait(), self.notes)


def test_the_device_has_the_layers_to_do_while_a_mask_is_made() -> None:
    """A step with a grammar is launched before the last one is read, and only its choice waits."""
    stream = Noted()
    core, _ = toy_ahead(stream=stream, compile_grammar=guidance().compile)
    constrained = make_request("g", ignore_eos=True, max_tokens=20)
    core.add(structs.replace(constrained, grammar=grammar.regex("(a|b){20}")))
    core.add(make_request("free", ignore_eos=True, max_tokens=20))
    for _ in range(3):
        core.step()
    stream.notes.clear()
    for _ in range(10):
        core.step()
    assert stream.notes == ["layers", "read", "choice"] * 10


def test_a_grammar_that_cannot_be_followed_fails_its_row_alone() -> None:
    """Once it is asked; the others of its steps go on as if it had never been there."""

    class Gives:
        is_over = False
        late = None

        def follow(self, token_ids: Seq[int]) -> None:
            if len(token_ids) == 3:
                raise GrammarError("no further")

        def fill(self, mask: NDArray[np.int32]) -> None:
            mask[:] = -1

    core, _ = toy_ahead(stream=Late(), compile_grammar=lambda *_: Gives())
    bad = structs.replace(make_request("bad", [9, 9], ignore_eos=True), grammar="x")
    good = make_request("good", [5, 6], max_tokens=12, temperature=0.9, ignore_eos=True)
    outputs = run_all(core, [bad, good])
    assert len(tokens_of(outputs["bad"])) == 3
    assert (outputs["bad"][-1].error, outputs["bad"][-1].error_code) == (
        "no further", ErrorCode.INVALID_GRAMMAR,
    )  # fmt: skip
    assert tokens_of(outputs["good"]) == tokens_of(run_all(toy_core(), [good])["good"])


def test_a_grammar_ends_one_step_late_and_what_came_after_it_is_discarded() -> None:
    """Nothing can follow the last word: no end has to be sampled, and no token too many is told."""
    core, launcher = toy_ahead(compile_grammar=guidance().compile)
    request = structs.replace(make_request(), grammar=grammar.lark('start: "[" "a" "]"'))
    (outputs,) = run_all(core, [request]).values()
    assert text_of(tokens_of(outputs)) == "[a]"
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert launcher.num_launched == 4
    assert core.stats().num_blocks_used == 0


def test_scores_of_a_preempted_prompt_are_kept() -> None:
    """Those of a step that was in flight when its sequence lost its blocks."""
    preempted = 0
    for num_blocks in range(8, 16):
        config = toy_config(
            max_model_len=8, num_blocks=num_blocks, block_size=1, max_num_batched_tokens=16
        )
        requests = [
            make_request(str(i), [i + 1] * 3, max_tokens=5, ignore_eos=True, prompt_logprobs=2)
            for i in range(4)
        ]
        core, _ = toy_ahead(config)
        said, expected = run_all(core, requests), run_all(toy_core(config), requests)
        preempted += core.stats().preemptions_total
        for name, outputs in expected.items():
            assert said[name][0].prompt_logprobs == outputs[0].prompt_logprobs
            assert tokens_of(said[name]) == tokens_of(outputs)
    assert preempted > 0


def test_an_abort_leaves_nothing_in_flight() -> None:
    """The step in flight of an engine that was told to stop is not waited for."""
    core: EngineCore = toy_ahead(stream=Late())[0]
    for request in mixed(seed=5, count=4, ignore_eos=True):
        core.add(request)
    for _ in range(3):
        core.step()
    core.abort_all()
    outputs = core.step()
    assert {o.finish_reason for o in outputs} == {FinishReason.ABORT}
    assert not core.has_work
