"""Guesses that are verified where steps are launched ahead change how many steps there are, and
nothing that a client can see."""

import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from msgspec import structs
from torch import Tensor

from tests.engine.grammar.toy_grammars import grammar_core
from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of
from tests.engine.run_ahead.engines import Late, toy_ahead
from tests.engine.run_ahead.launched_drafts import Untimed, launched_draft
from tests.engine.run_ahead.test_run_ahead import (
    MAX_ARRIVALS,
    STREAMS,
    AheadMachine,
    logprobs_of,
)
from tests.engine.toy import (
    VOCAB,
    ToyCache,
    ToyModel,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
)
from tests.oracles.kv_content import KVContent
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import Drafter, EachText
from thirdeye.server.engine.drafting.first_of import FirstOf
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.interface.types import StepOutput
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, DeviceStream
from thirdeye.server.engine.run_ahead.device_sampler import DeviceSampler, SamplingMode
from thirdeye.server.engine.run_ahead.device_state import DeviceState
from thirdeye.server.engine.run_ahead.guessing.draft_rounds import DraftRounds
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.launcher import DeviceGuesses
from thirdeye.server.engine.run_ahead.prefill_step import PrefillStep
from thirdeye.server.engine.run_ahead.slot_table import SlotState, SlotTable
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

torch.set_num_threads(1)

PERIOD = 3
PULL = 9.0  # logits of the toy model are noise of deviation 2


class Repeats(ToyModel):
    """Says mostly what it said three tokens before; the toy's noise decides where it does not."""

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> torch.Tensor:
        logits = super()._row(batch, kv_cache, t).clone()
        size, position = kv_cache.block_size, int(batch.positions[t]) + 1 - PERIOD
        if position >= 0 and float(logits[1]) < 2:
            b = int(torch.searchsorted(batch.query_start_loc, t, right=True)) - 1
            block = int(batch.block_table[b, position // size])
            logits[kv_cache.tokens[block * size + position % size]] += PULL
        return logits


class Periodic:
    """Guesses that the text goes on as `Repeats` likes it, and now and then at random."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        chance = random.Random(len(token_ids))
        text = list(token_ids)
        for _ in range(chance.choice([few, limit, limit])):
            is_wrong = len(text) < PERIOD or chance.random() < 0.1
            text.append(chance.randrange(VOCAB) if is_wrong else text[-PERIOD])
        return text[len(token_ids) :]


DRAFTERS: dict[str, Callable[[], Drafter]] = {"lookup": PromptLookup, "periodic": Periodic}
MODEL = "model"


class RepeatsToo(Repeats):
    """Says the same, but for texts whose content says so: there it means another token."""

    def _row(self, batch: ForwardBatch, kv_cache: ToyCache, t: int) -> torch.Tensor:
        logits = super()._row(batch, kv_cache, t)
        return logits.roll(1) if float(logits[2]) > 2 else logits


def by_model(config: EngineConfig, stream: DeviceStream) -> tuple[Untimed, DraftRounds]:
    """A draft model over the toy cache, whose steps are launched on the served model's stream."""
    own = structs.replace(config, num_draft_tokens=0, steps_ahead=0)
    model, kept = RepeatsToo(), ToyCache(own.num_blocks + 1, own.block_size)
    otherwise = ModelRunner(model, kept, own, "cpu")
    return launched_draft(lambda batch: model(batch, kept), own, VOCAB, stream, otherwise)


def watch_kv(core: EngineCore) -> None:
    """Each step that is read is checked against what its slots hold."""
    scheduler = core._scheduler
    content, update = KVContent(scheduler._pool.block_size), scheduler.update

    def checked(plan: StepPlan, result: StepResult) -> list[StepOutput]:
        here = [r for r in plan.rows if r.sequence.status is SequenceStatus.RUNNING]
        content.compute(StepPlan([row.settled() for row in here]))
        return update(plan, result)

    scheduler.update = checked  # type: ignore[method-assign]  # of this one


class VerifiedMachine(AheadMachine):
    """The machine of the loop, over a model whose text repeats and guesses of it."""

    model = Repeats

    @initialize(
        block_size=st.sampled_from([1, 2, 4]),
        num_blocks=st.integers(6, 20),
        max_num_seqs=st.integers(1, 6),
        more_tokens=st.integers(0, 20),
        enable_prefix_caching=st.booleans(),
        num_draft_tokens=st.sampled_from([1, 2, 5]),
        max_tokens_with_drafts=st.sampled_from([4, 16, 40]),
        stream=st.sampled_from(sorted(STREAMS)),
        drafter=st.sampled_from([*sorted(DRAFTERS), MODEL]),
    )
    def start(self, drafter: str, **sizes: object) -> None:  # type: ignore[override]  # more to draw
        self.drafter = drafter
        super().start(**sizes)  # type: ignore[arg-type]  # as it draws them
        watch_kv(self.core)

    def make_guesser(self, stream: DeviceStream) -> tuple[Proposer, DeviceGuesses | None]:
        if self.drafter != MODEL:
            return EachText(DRAFTERS[self.drafter]), None
        draft, rounds = by_model(self.config, stream)
        return FirstOf(EachText(PromptLookup), draft), rounds

    @precondition(lambda self: len(self.requests) < MAX_ARRIVALS)
    @rule(
        prompt=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        max_tokens=st.integers(4, 40),
        temperature=st.sampled_from([0.0, 0.8]),
        seed=st.integers(0, 2**64),
        logprobs=st.sampled_from([None, None, 2]),
        min_tokens=st.sampled_from([0, 0, 6]),
    )
    def add_simple(self, prompt: list[int], **sampling: object) -> None:
        """Requests that guesses are made for, more than the others."""
        self.add_request(prompt, 0, "", **sampling)


class TestVerified(VerifiedMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """3 runs of 15 rules, and 1,000 of 30 in `tests/prove`."""

    settings = settings(REPEATABLE, max_examples=3, stateful_step_count=15)


class Told:
    """Knows one text."""

    def __init__(self, text: list[int]) -> None:
        self._text = text

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        if self._text[: len(token_ids)] != list(token_ids):
            return []
        return self._text[len(token_ids) : len(token_ids) + limit]


DRAFTING = {"num_draft_tokens": 4, "max_tokens_with_drafts": 16}


def text_after(prompt: list[int], model: ToyModel, **sampling: object) -> list[int]:
    request = make_request("r", prompt, **sampling)
    return tokens_of(run_all(grammar_core(model=model), [request])["r"])


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_right_guesses_save_steps_and_no_step_waits(stream: str, temperature: float) -> None:
    """Each step but the first is launched before the one before it is read, and gives five tokens.
    Whether the last guesses end the answer nobody knows: behind them is one step in vain."""
    sampling = {"max_tokens": 40, "temperature": temperature, "seed": 3, "ignore_eos": True}
    expected = text_after([5, 6, 7], ToyModel(), **sampling)
    text = [5, 6, 7, *expected, *[1] * 20]
    core, launcher = toy_ahead(
        toy_config(**DRAFTING), None, STREAMS[stream](), proposer=EachText(lambda: Told(text))
    )
    core.add(make_request("r", [5, 6, 7], **sampling))
    outputs: list[StepOutput] = []
    num_ahead = 0
    while core.has_work:
        before = core._launched
        outputs += core.step()
        num_ahead += None not in (before, core._launched)
    assert tokens_of(outputs) == expected
    assert launcher.num_refused == 0
    assert launcher.num_launched == 10  # the prompt's, 7 of five tokens, one of four, one in vain
    assert num_ahead == 8
    assert [len(output.token_ids) for output in outputs] == [1, *[5] * 7, 4]
    stats = core.stats()
    assert stats.spec_decode_num_accepted_tokens_total == 7 * 4 + 3
    assert stats.num_blocks_used == 0


@pytest.mark.parametrize("stream", STREAMS)
def test_a_draft_model_guesses_behind_what_nobody_has_read(stream: str) -> None:
    """A step is read before the next is planned once, when that model has nothing of the text yet;
    from then on each is launched, with the guesses that it verifies, before the last one is read.
    """
    sampling = {"max_tokens": 40, "ignore_eos": True}
    expected = text_after([5, 6, 7], Repeats(), **sampling)
    config, order = toy_config(steps_ahead=1, **DRAFTING), STREAMS[stream]()
    draft, rounds = by_model(config, order)
    core, launcher = toy_ahead(config, Repeats(), order, proposer=draft, guesses=rounds)
    launch, was_read = launcher.launch, list[bool]()

    def noted(plan: StepPlan) -> LaunchedStep:
        was_read.append(core._launched is None)
        return launch(plan)

    launcher.launch = noted  # type: ignore[method-assign]  # of this one
    outputs = run_all(core, [make_request("r", [5, 6, 7], **sampling)])["r"]
    assert tokens_of(outputs) == expected
    assert launcher.num_refused == 0
    assert launcher.num_verified > 5
    assert len(was_read) < 30
    assert was_read == [True, False, True, *[False] * (len(was_read) - 3)]
    assert core.stats().spec_decode_num_accepted_tokens_total > 10


def test_who_has_too_much_company_or_rests_is_not_read_first() -> None:
    config = toy_config(steps_ahead=1, max_num_seqs=12, **DRAFTING)
    draft, rounds = by_model(config, CpuStream())
    core, _ = toy_ahead(config, Repeats(), proposer=draft, guesses=rounds)
    scheduler = core._scheduler
    for i in range(8):
        core.add(make_request(str(i), [5, 6, i], max_tokens=40, ignore_eos=True))
    for _ in range(5):  # of 16 tokens 8 are rows: there is no cheap room left
        core.step()
        assert not scheduler.reads_newest
    for i in range(1, 8):
        core.abort(str(i))
    core.step()
    assert scheduler.reads_newest
    draft._account._turn_off()
    assert not scheduler.reads_newest


def test_prompt_lookup_is_what_serves() -> None:
    """A text that says the same over and over takes far fewer steps than tokens."""
    request = make_request("r", [5, 6], max_tokens=60, logit_bias={9: 100.0})
    core, launcher = toy_ahead(toy_config(num_draft_tokens=8))
    assert tokens_of(run_all(core, [request])["r"]) == [9] * 60
    assert launcher.num_launched < 30
    assert core.stats().spec_decode_num_accepted_tokens_total > 30


def test_wrong_guesses_cost_no_token_and_no_block() -> None:
    """Of a text that never comes true; the step behind begins where the device says."""
    sampling = {"max_tokens": 20, "ignore_eos": True, "logprobs": 2}
    request = make_request("r", [5, 6, 7], **sampling)
    core, launcher = toy_ahead(
        toy_config(**DRAFTING), stream=Late(), proposer=EachText(lambda: Sevens())
    )
    outputs, expected = run_all(core, [request])["r"], run_all(grammar_core(), [request])["r"]
    assert tokens_of(outputs) == tokens_of(expected)
    assert logprobs_of(outputs) == logprobs_of(expected)
    assert launcher.num_verified > 10
    assert launcher.num_launched == 20
    assert core.stats().num_blocks_used == 0


class Sevens:
    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        return [7] * limit


class NowAndThen:
    """Guesses in vain in some steps, others for each text."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        return [7] * limit if (len(token_ids) + token_ids[0]) % 3 == 0 else []


def answers_that_share_a_pool() -> tuple[list[list[int]], list[list[int]]]:
    """Two at a time, which give back blocks in turns, and one that goes on behind the first of
    them, in its blocks; and the same alone."""
    first, other = [make_request(str(i), [i, 6], max_tokens=40, ignore_eos=True) for i in (1, 2)]
    text = [1, 6, *greedy_reference(first)]
    last = make_request("last", text, max_tokens=3, ignore_eos=True)
    core, _ = toy_ahead(
        toy_config(block_size=1, num_blocks=128, **DRAFTING), proposer=EachText(NowAndThen)
    )
    said = run_all(core, [first, other]) | run_all(core, [last])
    requests = (first, other, last)
    return [tokens_of(said[r.request_id]) for r in requests], list(map(greedy_reference, requests))


def test_blocks_of_answers_with_guesses_are_found_again() -> None:
    """What is found lies where the device has written it, though blocks were given back between."""
    said, alone = answers_that_share_a_pool()
    assert said == alone


def answers_beside_a_chunk(stream: str) -> tuple[list[int], list[int]]:
    """Of a text whose guesses are right, while another's prompt comes; and of it alone."""
    request = make_request("r", [5, 6, 7], max_tokens=40, ignore_eos=True)
    expected = greedy_reference(request)
    text = [5, 6, 7, *expected, *[1] * 20]
    core, launcher = toy_ahead(
        toy_config(max_num_batched_tokens=16, **DRAFTING),
        None,
        STREAMS[stream](),
        proposer=EachText(lambda: Told(text)),
    )
    core.add(request)
    outputs = [output for _ in range(4) for output in core.step()]
    assert launcher.num_verified > 2
    core.add(make_request("long", [9] * 40, max_tokens=1, frequency_penalty=0.1))
    while core.has_work:
        outputs += core.step()
    return tokens_of([o for o in outputs if o.request_id == "r"]), expected


@pytest.mark.parametrize("stream", STREAMS)
def test_rows_beside_a_chunk_go_on_where_the_device_says(stream: str) -> None:
    said, alone = answers_beside_a_chunk(stream)
    assert said == alone


def test_rows_that_the_host_places_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the one before: rows stand where they would if no guess had been right."""

    def mutant(self: PrefillStep) -> None:
        self._state.advance(self._indices.afloat_slots)

    monkeypatch.setattr(PrefillStep, "_place_afloat", mutant)
    said, alone = answers_beside_a_chunk("at once")
    assert said != alone


class BrokenAfterDrafts(ToyModel):
    """Says NaN for all positions of a step but the first."""

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        logits = super().__call__(batch, kv_cache)
        logits[1:] = torch.nan
        return logits


def test_broken_logits_at_a_draft_are_no_error_of_the_request() -> None:
    """Without guesses nobody would ever have looked at them: the next step begins there."""
    expected = text_after([5, 6, 7], ToyModel(), max_tokens=10, ignore_eos=True)
    text = [5, 6, 7, *expected, *[1] * 20]
    core, launcher = toy_ahead(
        toy_config(**DRAFTING),
        BrokenAfterDrafts(),
        Late(),
        proposer=EachText(lambda: Told(text)),
    )
    request = make_request("r", [5, 6, 7], max_tokens=10, ignore_eos=True)
    assert tokens_of(run_all(core, [request])["r"]) == expected
    assert launcher.num_verified > 3


@pytest.mark.parametrize("wish", ["grammar", "penalties", "adapter", "chunk"])
def test_who_has_no_guesses(wish: str) -> None:
    """What looks back at the tokens before it, and what is no step of answers alone."""
    config = toy_config(steps_ahead=1, **DRAFTING)
    scheduler = Scheduler(config, proposer=EachText(Sevens))
    request = make_request(
        "r", [5, 6], ignore_eos=True, frequency_penalty=float(wish == "penalties"),
        adapter=int(wish == "adapter"),
    )  # fmt: skip
    if wish == "grammar":
        request = structs.replace(request, grammar="x")
    scheduler.add(request)
    scheduler.launched(scheduler.schedule())
    if wish == "chunk":
        scheduler.add(make_request("long", [5] * 8))
    assert not any(row.draft_token_ids for row in scheduler.schedule().rows)


@pytest.mark.parametrize("wish", [{"adapter": 1}, {"penalty_window": 4}], ids=str)
def test_nor_has_who_is_beside_one_that_is_not_launched(wish: dict[str, int]) -> None:
    """Nobody would look at the guesses."""
    scheduler = Scheduler(toy_config(steps_ahead=1, **DRAFTING), proposer=EachText(Sevens))
    scheduler.add(make_request("r", [5, 6], ignore_eos=True))
    scheduler.add(make_request("other", [5, 6], ignore_eos=True, **wish))
    scheduler.launched(scheduler.schedule())
    rows = scheduler.schedule().rows
    assert [row.draft_token_ids for row in rows] == [(), ()]


def test_in_steps_of_answers_alone_they_have() -> None:
    """The test of the one before it."""
    config = toy_config(steps_ahead=1, **DRAFTING)
    scheduler = Scheduler(config, proposer=EachText(Sevens))
    scheduler.add(make_request("r", [5, 6], ignore_eos=True))
    scheduler.launched(scheduler.schedule())
    (row,) = scheduler.schedule().rows
    assert (row.draft_token_ids, row.num_pending_tokens) == ((7,) * 4, 1)


def test_nor_a_model_that_keeps_states() -> None:
    """What a guess has done to one cannot be taken back on the device."""
    assert toy_config(steps_ahead=1, **DRAFTING).most_rows_verified == 16
    assert toy_config(steps_ahead=1, num_states=4, **DRAFTING).most_rows_verified == 0
    assert toy_config(steps_ahead=0, **DRAFTING).most_rows_verified == 0


# --- planted bugs ---


def go_on_where_nothing_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot stands behind its newest token, however many guesses were right."""

    def mutant(self: DeviceState, slots: Tensor, positions: Tensor, chosen: Tensor) -> None:
        accept(self, slots, positions, chosen.where(self.offsets[: len(slots), None] == 0, 0))

    accept = DeviceState.accept
    monkeypatch.setattr(DeviceState, "accept", mutant)


def believe_all_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot stands behind its last guess, right or wrong."""
    accept = DeviceState.accept

    def mutant(self: DeviceState, slots: Tensor, positions: Tensor, chosen: Tensor) -> None:
        as_guessed = chosen.clone()
        as_guessed[:-1, 1] = self.drafts[1 : len(slots)]
        as_guessed[:, 0] = 1
        accept(self, slots, positions, as_guessed)

    monkeypatch.setattr(DeviceState, "accept", mutant)


def go_on_behind_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was launched behind a step is not moved by what that step accepted."""
    monkeypatch.setattr(PlanRow, "settled", lambda self: self)


def cut_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of rejected guesses are given back while the next step counts on them."""
    monkeypatch.setattr(Sequence, "num_uncertain_tokens", 0)


def test_a_block_that_is_told_once_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the one about blocks that are found again: a block that was given back with its
    guesses, and another in its place, of which the device knows nothing."""
    tell = SlotTable._write_blocks

    def mutant(self: SlotTable, state: SlotState, row: PlanRow) -> None:
        tell(self, state, row)
        num_blocks = -(-row.end_at_most // self._block_size)
        state.num_blocks = tuple(max(num, num_blocks) for num in state.num_blocks)

    monkeypatch.setattr(SlotTable, "_write_blocks", mutant)
    said, alone = answers_that_share_a_pool()
    assert said != alone


def draw_all_at_one_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of a guess is that of the token before it."""
    choose = DeviceSampler._choose_without_kernels

    def mutant(
        self: DeviceSampler, logits: Tensor, slots: Tensor, positions: Tensor, mode: SamplingMode
    ) -> Tensor:
        offsets = self._state.offsets[: len(slots)] if mode.is_verified else 0
        return choose(self, logits, slots, positions - offsets, mode)

    monkeypatch.setattr(DeviceSampler, "_choose_without_kernels", mutant)


PLANTED = [
    go_on_where_nothing_was_right,
    believe_all_guesses,
    go_on_behind_the_fewest,
    cut_what_is_in_flight,
    draw_all_at_one_position,
]
FOUND_BY = {  # seeds, see tests/engine/planted.py
    go_on_where_nothing_was_right: 0,
    believe_all_guesses: 0,
    go_on_behind_the_fewest: 0,
    cut_what_is_in_flight: 0,
}


@pytest.mark.parametrize("plant", PLANTED, ids=name_of)
def test_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test."""
    plant(monkeypatch)
    assert_finds_the_bug(
        VerifiedMachine, max_examples=500, num_steps=15, found_by=FOUND_BY.get(plant)
    )
