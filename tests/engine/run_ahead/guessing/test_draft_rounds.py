"""Guesses that a draft model makes on the device are those of a twin that keeps nothing; answers
alone would not show one that is stale. And what becomes of texts that it cannot guess at once."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import pytest
import torch
from msgspec import structs
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.drafting.draft_twin import twin_guesses
from tests.engine.grammar.toy_grammars import grammar_core
from tests.engine.planted import name_of
from tests.engine.run_ahead.engines import CountingLauncher, toy_ahead
from tests.engine.run_ahead.launched_drafts import CPU, Untimed
from tests.engine.run_ahead.test_run_ahead import STREAMS
from tests.engine.run_ahead.test_verified_ahead import DRAFTING, Repeats, RepeatsToo
from tests.engine.toy import (
    VOCAB,
    ToyCache,
    make_request,
    run_all,
    tokens_of,
    toy_config,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting import draft_ahead
from thirdeye.server.engine.drafting.each_text import Drafter, EachText
from thirdeye.server.engine.drafting.first_of import FirstOf
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, StepOutput
from thirdeye.server.engine.run_ahead.cuda_graphs import rerun
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, DeviceStream
from thirdeye.server.engine.run_ahead.guessing import draft_rounds
from thirdeye.server.engine.run_ahead.guessing.draft_rounds import (
    DraftRounds,
    GuessPlaces,
    LaunchedSteps,
)
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.scheduling.speculation.proposer import DraftAsk
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

torch.set_num_threads(1)


class Checked(Untimed):
    """Each guess is its twin's, once it was read."""

    num_checked = 0

    def judge(self, row: PlanRow, num_right: int) -> None:
        if row.is_guessed_ahead:
            guesses, end = list(row.draft_token_ids), row.real_end
            alone = twin_guesses(RepeatsToo(), self._config, row.sequence, len(guesses), end)
            assert guesses == alone, "a stale guess"
            self.num_checked += len(guesses)
        super().judge(row, num_right)


def guessed_core(
    config: EngineConfig,
    stream: DeviceStream,
    draft: type[RepeatsToo] = RepeatsToo,
    *,
    lookup: Callable[[], Drafter] | None = PromptLookup,
    **own_sizes: int,
) -> tuple[EngineCore, CountingLauncher, Checked]:
    """A draft model whose config is the served one's, but for its own sizes."""
    own = structs.replace(config, num_draft_tokens=0, **own_sizes)
    model, kept = draft(), ToyCache(own.num_blocks + 1, own.block_size)

    def forward(batch: ForwardBatch) -> torch.Tensor:
        return model(batch, kept)

    launcher = Launcher(forward, own, VOCAB, CPU, rerun, stream)
    proposer = Checked(LaunchedSteps(launcher, ModelRunner(model, kept, own, CPU)), own)
    rounds = DraftRounds(launcher, proposer)
    both = FirstOf(EachText(lookup), proposer) if lookup else proposer
    core, served = toy_ahead(config, Repeats(), stream, proposer=both, guesses=rounds)
    return core, served, proposer


REQUESTS = [
    make_request("greedy", [5, 6, 7], max_tokens=40, ignore_eos=True, logprobs=2),
    make_request("drawn", [1] * 9, max_tokens=30, ignore_eos=True, temperature=0.8, seed=7),
    make_request("biased", [3, 4], max_tokens=25, logit_bias={9: 2.5}, min_tokens=20),
    make_request("long", [1 + i % 5 for i in range(50)], max_tokens=12, ignore_eos=True),
    make_request("penalized", [2, 2], max_tokens=20, ignore_eos=True, frequency_penalty=0.3),
]


def arriving(core: EngineCore, requests: list[Request]) -> dict[str, list[StepOutput]]:
    """One every sixth step, so that others are in the midst of their answers."""
    said: dict[str, list[StepOutput]] = {r.request_id: [] for r in requests}
    waiting, steps = list(requests), 0
    while waiting or core.has_work:
        if steps % 6 == 0 and waiting:
            core.add(waiting.pop(0))
        for output in core.step():
            said[output.request_id].append(output)
        steps += 1
    return said


SIZES = toy_config(steps_ahead=1, max_num_batched_tokens=24, **DRAFTING)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("num_blocks", "chunk"), [(64, 256), (64, 7), (14, 256)])
def test_each_guess_is_its_twins(
    stream: str, num_blocks: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside texts that are copied, chunks of prompts and requests that have no guesses; with texts
    that are caught up with in several steps, and with so few blocks that not all have theirs."""
    monkeypatch.setattr("thirdeye.server.engine.drafting.draft_model.CATCH_UP", chunk)
    own = {"num_blocks": num_blocks, "max_model_len": num_blocks * 4}
    core, launcher, proposer = guessed_core(SIZES, STREAMS[stream](), **own)
    said = arriving(core, REQUESTS)
    expected = run_all(grammar_core(model=Repeats()), REQUESTS)
    for name, outputs in expected.items():
        assert tokens_of(said[name]) == tokens_of(outputs)
        assert said[name][-1].finish_reason == outputs[-1].finish_reason
    assert launcher.num_refused == 0
    assert proposer.num_checked > 5
    assert not proposer._has_failed
    assert proposer._pool.num_used == 0


def compute_no_last_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all are right its keys and values are missing."""
    monkeypatch.setattr(draft_rounds, "steps_for", lambda num_guesses: num_guesses)


def begin_where_another_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts go on from the first one's token."""
    places_of = DraftRounds._places

    def mutant(self: DraftRounds, *asked: list[int]) -> GuessPlaces:
        places = places_of(self, *asked)  # type: ignore[arg-type]  # as they came
        return replace(places, slots=places.slots[:1].expand(len(places.slots)))

    monkeypatch.setattr(DraftRounds, "_places", mutant)


def trust_a_step_without_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step in flight computes beside a chunk, or behind a copy, counts as known."""

    def mutant(shadow: draft_ahead.ShadowAhead, ask: DraftAsk) -> bool:
        return shadow.sequence.num_computed_tokens == ask.sequence.num_computed_tokens

    monkeypatch.setattr(draft_ahead, "is_even", mutant)


def give_all_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text's drafts are those of the first text's steps."""
    places_of = DraftRounds._places

    def mutant(self: DraftRounds, *asked: list[int]) -> GuessPlaces:
        places = places_of(self, *asked)  # type: ignore[arg-type]  # as they came
        return replace(places, guesses=torch.zeros_like(places.guesses))

    monkeypatch.setattr(DraftRounds, "_places", mutant)


PLANTED = [
    compute_no_last_guess,
    begin_where_another_is,
    trust_a_step_without_guesses,
    give_all_the_first_ones,
]


@pytest.mark.parametrize("plant", PLANTED, ids=name_of)
def test_the_twin_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the one before."""
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="a stale guess"):
        arriving(guessed_core(SIZES, CpuStream())[0], REQUESTS)


class Operations(TorchDispatchMode):  # type: ignore[misc]  # torch leaves it untyped
    """The names of those that are no views, as long as it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.looks = True

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if self.looks and not function.is_view:
            self.names.append(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))


def test_what_goes_between_the_models_is_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside k + 1 of its own steps: where these begin, what each said, and where that goes."""
    place, run, operations = Launcher.place, CpuStream.run, Operations()
    of_guesses: list[list[str]] = []

    def quiet(self: Launcher, rows: list[PlanRow]) -> tuple[list[int], Callable[[], torch.Tensor]]:
        slots, step = place(self, rows)

        def unseen() -> torch.Tensor:
            operations.looks = False
            chosen = step()
            operations.looks = True
            return chosen

        return slots, unseen

    def counted(self: CpuStream, work: Callable[[], object]) -> None:
        operations.names = []
        with operations:
            run(self, work)
        if "cat" in operations.names:
            of_guesses.append(operations.names)

    monkeypatch.setattr(Launcher, "place", quiet)
    monkeypatch.setattr(CpuStream, "run", counted)
    core, *_ = guessed_core(SIZES, CpuStream(), lookup=None)
    run_all(core, [make_request(max_tokens=30, ignore_eos=True)])
    assert len(of_guesses) > 3
    for names in of_guesses:
        steps = names.count("clone")
        assert 2 <= steps <= 5
        others = ["index_select", "index_copy_", "cat", "index_select", "index_copy_"]
        assert [name for name in names if name != "clone"] == others  # and a change of dtype


class Wrong(RepeatsToo):
    """Means another token than the served model, always."""

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> torch.Tensor:
        return super(RepeatsToo, self)._row(batch, kv_cache, t).roll(1)


def test_a_text_that_was_guessed_badly_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then its tokens are not known: the trial waits until they are, and is made."""
    monkeypatch.setattr(Checked, "judge", Untimed.judge)
    core, launcher, _ = guessed_core(SIZES, CpuStream(), Wrong, lookup=None)
    core.add(make_request("r", [5, 6, 7], max_tokens=100, ignore_eos=True))
    verified_at: list[int] = []
    for step in range(110):
        before = launcher.num_verified
        core.step()
        verified_at += [step] * (launcher.num_verified - before)
    assert verified_at[0] < 5
    assert verified_at[-1] > 30
    assert not core.has_work


class NinesFromFive:
    """Knows a text once it has five tokens."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        return [9] * limit if len(token_ids) >= 5 else []


def test_while_lookup_guesses_no_step_is_read_first() -> None:
    """Whom the draft model made wait waits no more where it is not asked."""
    core, launcher, _ = guessed_core(SIZES, CpuStream(), lookup=NinesFromFive)
    launch, was_read = launcher.launch, list[bool]()

    def noted(plan: StepPlan) -> LaunchedStep:
        was_read.append(core._launched is None)
        return launch(plan)

    launcher.launch = noted  # type: ignore[method-assign]  # of this one
    request = make_request(max_tokens=40, ignore_eos=True, logit_bias={9: 100.0})
    assert tokens_of(run_all(core, [request])["r"]) == [9] * 40
    assert was_read == [True, False, True, *[False] * (len(was_read) - 3)]
    assert len(was_read) < 15


def test_who_fails_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens that were there before are verified in the place of its guesses."""

    class Failing(RepeatsToo):
        def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
            if len(batch.input_ids) == 1:
                raise RuntimeError("no")
            return super().__call__(batch, kv_cache)

    core, launcher, proposer = guessed_core(SIZES, CpuStream(), Failing, lookup=None)
    proposer.judge = lambda row, num_right: None  # type: ignore[method-assign]  # of this one
    request = make_request(max_tokens=20, ignore_eos=True)
    expected = run_all(grammar_core(model=Repeats()), [request])["r"]
    assert tokens_of(run_all(core, [request])["r"]) == tokens_of(expected)
    assert launcher.num_verified == 1
    assert core.stats().is_draft_paused
    assert caplog.text.count("nothing is guessed any more") == 1


def test_a_text_beyond_its_context_goes_on_without() -> None:
    core, launcher, proposer = guessed_core(
        SIZES, CpuStream(), lookup=None, max_model_len=24, num_blocks=6
    )
    request = make_request(max_tokens=60, ignore_eos=True)
    expected = run_all(grammar_core(model=Repeats()), [request])["r"]
    assert tokens_of(run_all(core, [request])["r"]) == tokens_of(expected)
    assert 0 < proposer.num_checked < 24
    assert launcher.num_launched > 36


def test_between_two_blocks_nothing_is_sent() -> None:
    """Where guesses go, and from which slots, is told once."""
    core, _, proposer = guessed_core(
        structs.replace(SIZES, block_size=64, num_blocks=4), CpuStream(), lookup=None
    )
    assert isinstance(proposer._runner, LaunchedSteps)
    sent: list[list[int]] = []
    send = proposer._runner._launcher.send

    def noted(numbers: list[int]) -> torch.Tensor:
        sent.append(numbers)
        return send(numbers)

    proposer._runner._launcher.send = noted  # type: ignore[method-assign]  # of this one
    run_all(core, [make_request(max_tokens=40, ignore_eos=True, logit_bias={9: 100.0})])
    assert proposer.num_checked > 20
    assert len([numbers for numbers in sent if len(numbers) > 4]) <= 3
