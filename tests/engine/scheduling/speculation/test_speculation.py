"""Speculation changes how many steps an answer takes, and nothing else about it.

The toy model's logits are a hash of all that the KV cache holds below a position: one stale slot
read, one count of a penalty off by a draft, and the answer is another one.
"""

import random
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from itertools import cycle, product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import also_at_night, draws, is_night
from tests.engine.execution.test_model_runner import BrokenFor, alone, answer, mixed_requests
from tests.engine.toy import (
    EOS,
    ToyCache,
    ToyModel,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_core,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.each_text import Drafter, EachText
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import FinishReason, Request
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import StepPlan

Answers = dict[str, tuple[object, ...]]


class Prophet:
    """Knows the answers, and spoils each guess with a probability of its own."""

    def __init__(self, texts: Iterable[list[int]], wrong: float) -> None:
        self._texts, self._wrong = list(texts), wrong

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        text = next((t for t in self._texts if t[: len(token_ids)] == list(token_ids)), [])
        chance = random.Random(len(token_ids) * 1000 + limit)
        guesses = [*text[len(token_ids) :], 3, 4, 5][:limit]  # may well go on after the end
        return [7 if chance.random() < self._wrong else token_id for token_id in guesses]


def core_with(
    config: EngineConfig, make_drafter: Callable[[], Drafter], model: ToyModel | None = None
) -> EngineCore:
    pool = BlockPool(config.num_blocks, config.block_size)
    scheduler = Scheduler(config, pool, proposer=EachText(make_drafter))
    cache = ToyCache(config.num_blocks, config.block_size)
    return EngineCore(config, ModelRunner(model or ToyModel(), cache, config, "cpu"), scheduler)


def prophet_of(requests: Seq[Request], answers: Answers, wrong: float) -> Prophet:
    texts = [[*r.prompt_token_ids, *answers[r.request_id][0]] for r in requests]  # type: ignore[misc]  # the answer's token ids
    return Prophet(texts, wrong)


def all_requests(seed: int) -> list[Request]:
    """Those of the invariance suite, and some whose every parameter looks at the tokens so far."""
    chance = random.Random(seed)
    picky = [
        make_request(
            f"picky {i}",
            [chance.randrange(1, 6) for _ in range(chance.randrange(2, 12))],
            max_tokens=chance.randrange(1, 40),
            min_tokens=chance.choice([0, 5, 12]),
            temperature=chance.choice([0.0, 1.0]),
            presence_penalty=chance.choice([0.0, 1.5]),
            frequency_penalty=chance.choice([0.0, -0.7, 0.9]),
            repetition_penalty=chance.choice([1.0, 1.4]),
            logit_bias=chance.choice([{}, {3: 4.0, EOS: 2.0}]),
            stop_token_ids=chance.choice([[], [3, 9]]),
            penalty_window=chance.choice([-1, 3]),
            seed=i,
            logprobs=2,
        )
        for i in range(10)
    ]
    return mixed_requests(seed) + picky


SIZES: dict[str, dict[str, object]] = {
    "alone, one after the other": {"max_num_seqs": 1},
    "batched": {},
    "one draft": {"num_draft_tokens": 1},
    "without prefix cache": {"enable_prefix_caching": False},
    "chunks of 7": {"max_num_seqs": 4, "max_num_batched_tokens": 7},
    "starved pool": {"num_blocks": 32},
    "starved, chunked": {"num_blocks": 32, "max_num_seqs": 5, "max_num_batched_tokens": 9},
    "blocks of 16": {"block_size": 16, "num_blocks": 16},
}
DRAFTING = {"num_draft_tokens": 6, "max_tokens_with_drafts": 64}


@pytest.fixture(scope="module")
def expected() -> Answers:
    torch.set_num_threads(1)
    return alone(all_requests(seed=1))


# Guesses of which some are wrong by all sizes; at a push those that are all right or all wrong by
# every other one.
MIXED = [(name, 0.3) for name in SIZES]
PURE = (
    list(product(SIZES, (0.0, 1.0)))
    if is_night()
    else list(zip(SIZES, cycle((0.0, 1.0)), strict=False))
)


@also_at_night
@pytest.mark.parametrize(("name", "wrong"), MIXED + PURE)
def test_same_answer_with_drafts_of_any_quality(name: str, wrong: float, expected: Answers) -> None:
    """Tokens, logprobs and ends are bit-equal to those of each request alone, without drafts."""
    requests = all_requests(seed=1)
    prophet = prophet_of(requests, expected, wrong)
    config = toy_config(**(DRAFTING | SIZES[name]))
    core = core_with(config, lambda: prophet)
    outputs = run_all(core, requests)
    assert {name: answer(of_one) for name, of_one in outputs.items()} == expected
    stats = core.stats()
    assert stats.num_blocks_used == 0
    assert stats.spec_decode_num_draft_tokens_total > 20
    assert (stats.spec_decode_num_accepted_tokens_total > 10) == (wrong < 1)


@draws(8, 25)
@given(data=st.data(), seed=st.integers(0, 2**16), wrong=st.sampled_from([0.1, 0.5]))
def test_same_answer_for_any_sizes(data: st.DataObject, seed: int, wrong: float) -> None:
    requests = random.Random(seed).sample(all_requests(seed), 5)
    plain = alone(requests)
    max_num_seqs = data.draw(st.integers(1, 5))
    config = toy_config(
        block_size=data.draw(st.sampled_from([1, 4, 16])),
        num_blocks=data.draw(st.sampled_from([128, 160])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + data.draw(st.integers(0, 30)),
        num_draft_tokens=data.draw(st.integers(1, 20)),
        max_tokens_with_drafts=data.draw(st.integers(1, 64)),
        enable_prefix_caching=data.draw(st.booleans()),
    )
    prophet = prophet_of(requests, plain, wrong)
    outputs = run_all(core_with(config, lambda: prophet), requests)
    assert {name: answer(of_one) for name, of_one in outputs.items()} == plain


def test_fewer_steps_when_guesses_are_right() -> None:
    """And each step's tokens come in one output."""
    request = make_request(prompt=[5, 6, 7], max_tokens=40, ignore_eos=True)
    expected = greedy_reference(request)
    prophet = Prophet([[5, 6, 7, *expected]], wrong=0.0)
    core = core_with(toy_config(**DRAFTING), lambda: prophet)
    (outputs,) = run_all(core, [request]).values()
    assert tokens_of(outputs) == expected
    assert core.stats().steps_total == -(-40 // 7)
    assert [len(output.token_ids) for output in outputs] == [7, 7, 7, 7, 7, 5]


def test_prompt_lookup_is_what_serves() -> None:
    """The default drafter, on a model that says the same over and over under a strong bias."""
    request = make_request(prompt=[5, 6], max_tokens=60, logit_bias={9: 100.0})
    plain = run_all(toy_core(), [request])["r"]
    core = toy_core(toy_config(num_draft_tokens=8))
    outputs = run_all(core, [request])["r"]
    assert answer(outputs) == answer(plain)
    assert core.stats().steps_total < 30
    assert core.stats().spec_decode_num_accepted_tokens_total > 30


def test_off_by_default_in_the_engine() -> None:
    core = toy_core()
    run_all(core, [make_request(prompt=[5, 6], max_tokens=60, logit_bias={9: 100.0})])
    assert core.stats().spec_decode_num_draft_tokens_total == 0


@pytest.mark.parametrize("end", ["eos", "stop", "length"])
def test_an_answer_ends_in_the_middle_of_accepted_drafts(end: str) -> None:
    """What was accepted beyond the end is not told, not counted and not published."""
    stop = make_request("stop", [5, 6, 7], max_tokens=50, ignore_eos=True)
    greedy = greedy_reference(stop)
    third = greedy[2]
    assert third not in greedy[:2]
    options: dict[str, dict[str, Any]] = {
        "eos": {"logit_bias": {EOS: 100.0}, "min_tokens": 3},
        "stop": {"stop_token_ids": [third], "logprobs": 0},
        "length": {"max_tokens": 3, "ignore_eos": True},
    }
    request = make_request("r", [5, 6, 7], **({"max_tokens": 50} | options[end]))
    (plain,) = run_all(toy_core(), [request]).values()
    text = [5, 6, 7, *tokens_of(plain), 1, 2, 3]
    core = core_with(toy_config(**DRAFTING), lambda: Prophet([text], wrong=0.0))
    (outputs,) = run_all(core, [request]).values()
    assert answer(outputs) == answer(plain)
    assert len(outputs) == 1
    assert (outputs[-1].finish_reason, outputs[-1].stop_token_id) == (
        plain[-1].finish_reason,
        plain[-1].stop_token_id,
    )
    assert core.stats().generation_tokens_total == len(tokens_of(plain))
    assert core.stats().num_blocks_used == 0


def test_blocks_that_accepted_drafts_have_filled_are_found_again() -> None:
    """As much of the answer is in the prefix cache as if its tokens had come one by one."""
    request = make_request("r", [5, 6, 7], max_tokens=40, ignore_eos=True)
    text = [5, 6, 7, *greedy_reference(request)]
    found: list[int] = []
    for sizes in ({}, DRAFTING):
        core = core_with(toy_config(**sizes), lambda: Prophet([text], wrong=0.0))
        run_all(core, [request])
        (again,) = run_all(core, [make_request("again", [*text, 1], max_tokens=1)]).values()
        found.append(again[-1].num_cached_tokens)
    assert found == [40, 40], "42 tokens are computed, in blocks of 4"


class BrokenAfterDrafts(ToyModel):
    """Says NaN for every position but the first that a sequence asks logits for in a step."""

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        logits = super().__call__(batch, kv_cache)
        logits[1:] = torch.nan
        return logits


def test_broken_logits_at_a_draft_are_no_error_of_the_request() -> None:
    """Without speculation nobody would ever have looked at them."""
    request = make_request(prompt=[5, 6, 7], max_tokens=10, ignore_eos=True)
    expected = greedy_reference(request)
    for wrong in (0.0, 1.0):
        prophet = Prophet([[5, 6, 7, *expected]], wrong)
        core = core_with(toy_config(**DRAFTING), lambda: prophet, BrokenAfterDrafts())  # noqa: B023 (called at once)
        assert tokens_of(run_all(core, [request])["r"]) == expected


def test_a_request_that_is_broken_anyway_fails_alone() -> None:
    good = make_request("good", [5, 6], max_tokens=9, ignore_eos=True)
    bad = make_request("bad", [13, 6])
    prophet = Prophet([[5, 6, *greedy_reference(good)]], wrong=0.0)
    outputs = run_all(core_with(toy_config(**DRAFTING), lambda: prophet, BrokenFor()), [bad, good])
    assert outputs["bad"][-1].finish_reason is FinishReason.ERROR
    assert tokens_of(outputs["good"]) == greedy_reference(good)


# --- what drafts may take ---


class Eager:
    """As many drafts as are allowed, always."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        return [7] * limit


class Driver:
    """A scheduler with eager drafts, and a model that says 8: every draft is wrong."""

    def __init__(self, **sizes: object) -> None:
        self.config = toy_config(**({"num_draft_tokens": 4} | sizes))
        self.pool = BlockPool(self.config.num_blocks, self.config.block_size)
        self.scheduler = Scheduler(self.config, self.pool, proposer=EachText(Eager))

    def add(self, name: str, num_tokens: int, max_tokens: int = 50) -> None:
        prompt = [ord(name[0])] * num_tokens
        self.scheduler.add(make_request(name, prompt, max_tokens=max_tokens, ignore_eos=True))

    def step(self) -> dict[str, int]:
        """The drafts of each request."""
        plan = self.scheduler.schedule()
        self.plan = plan
        self.scheduler.update(plan, say_eight(plan))
        self.scheduler.check_integrity()
        return {r.sequence.request.request_id: len(r.draft_token_ids) for r in plan.rows}


def say_eight(plan: StepPlan) -> StepResult:
    return StepResult([RowResult(token_ids=[8] if r.is_sampled else []) for r in plan.rows])


def test_drafts_take_what_is_left_of_a_small_step() -> None:
    driver = Driver(max_tokens_with_drafts=8)
    driver.add("a", 3)
    assert driver.step() == {"a": 4}
    driver.add("b", 5)
    assert driver.step() == {"a": 2, "b": 0}, "a's token, b's five, two drafts"
    assert driver.step() == {"a": 4, "b": 2}
    driver.add("long", 60)
    assert driver.step() == {"a": 0, "b": 0, "long": 0}


def test_the_token_budget_counts_drafts() -> None:
    driver = Driver(max_num_seqs=3, max_num_batched_tokens=5, max_tokens_with_drafts=64)
    driver.add("a", 2)
    driver.add("b", 2)
    assert driver.step() == {"a": 1, "b": 0}
    assert driver.step() == {"a": 3, "b": 0}
    assert driver.plan.num_scheduled_tokens == 5


def test_no_draft_that_max_tokens_or_the_context_would_cut() -> None:
    driver = Driver(num_draft_tokens=20, max_tokens_with_drafts=64)
    driver.add("a", 3, max_tokens=4)
    assert [driver.step()["a"] for _ in range(4)] == [3, 2, 1, 0]
    driver.add("full", 124)
    assert not any(driver.step().values())
    while driver.scheduler.has_work:
        drafts = driver.step()["full"]
        (row,) = driver.plan.rows
        assert row.end <= 128
        assert drafts <= 3


def test_drafts_preempt_nobody_and_leave_their_blocks() -> None:
    """14 and 10 tokens need 4 and 3 blocks of 8; the one that is free goes to the first's drafts,
    and the other has as many as fit its last block."""
    driver = Driver(num_blocks=8, max_model_len=32, max_tokens_with_drafts=64)
    driver.add("a", 14)
    driver.add("b", 10)
    assert driver.step() == {"a": 4, "b": 2}
    assert driver.pool.num_used == 4 + 3
    while driver.scheduler.stats().preemptions_total == 0:
        assert driver.pool.num_used <= 8
        driver.step()
    plain = Driver(num_blocks=8, max_model_len=32, num_draft_tokens=0)
    plain.add("a", 14)
    plain.add("b", 10)
    while plain.scheduler.stats().preemptions_total == 0:
        plain.step()
    steps = [d.scheduler.stats().steps_total for d in (driver, plain)]
    assert steps[0] == steps[1], "preempted when its own tokens need it, and not a step before"


def test_who_waits_comes_before_drafts() -> None:
    driver = Driver(max_num_seqs=4, max_num_batched_tokens=8, max_tokens_with_drafts=64)
    driver.add("a", 3)
    driver.step()
    driver.add("b", 7)
    assert driver.step() == {"a": 0, "b": 0}
