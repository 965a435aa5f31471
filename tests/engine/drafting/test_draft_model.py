"""A draft model: what it costs, how it catches up with a text, and that its twin finds bugs."""

from collections.abc import Callable

import pytest
import torch

from tests.engine.drafting.conftest import DRAFTING, REQUESTS
from tests.engine.drafting.draft_twin import Checked, HalfRight, draft_config, drafting_core
from tests.engine.execution.test_model_runner import answer
from tests.engine.scheduling.speculation.test_speculation import Answers
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
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.drafting.draft_model import DraftModel, Shadow
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence


def test_fewer_steps_and_a_seeds_noise_is_shared() -> None:
    """Drawn tokens are guessed with the noise of their positions: a draft model that is the model
    itself is always right."""
    for temperature in (0.0, 1.0):
        request = make_request(max_tokens=40, ignore_eos=True, temperature=temperature, seed=9)
        config = toy_config(**DRAFTING)
        own = draft_config(config)
        drafter = DraftModel(ModelRunner(ToyModel(), ToyCache(64, 4), own, "cpu"), own, lambda: 0.0)
        runner = ModelRunner(ToyModel(), ToyCache(64, 4), config, "cpu")
        core = EngineCore(config, runner, Scheduler(config, proposer=drafter))
        (outputs,) = run_all(core, [request]).values()
        stats = core.stats()
        assert stats.spec_decode_num_accepted_tokens_total > 30
        rejected = stats.spec_decode_num_draft_tokens_total
        assert rejected == stats.spec_decode_num_accepted_tokens_total
        assert stats.steps_total <= 10
        if not temperature:
            assert tokens_of(outputs) == greedy_reference(request)


def test_a_long_prompt_is_caught_up_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step waits for more of it than a chunk; meanwhile nothing is guessed."""
    monkeypatch.setattr("thirdeye.server.engine.drafting.draft_model.CATCH_UP", 8)
    core, proposer = drafting_core(toy_config(**DRAFTING))
    core.add(make_request(prompt=[1 + i % 7 for i in range(60)], max_tokens=30, ignore_eos=True))
    lengths: list[int] = []
    run = proposer._runner.run

    def counted(plan):  # type: ignore[no-untyped-def]  # a runner's
        lengths.append(plan.num_scheduled_tokens)
        return run(plan)

    monkeypatch.setattr(proposer._runner, "run", counted)
    (outputs,) = drain(core).values()
    assert max(lengths) == 8
    assert len(tokens_of(outputs)) == 30
    assert core.stats().spec_decode_num_accepted_tokens_total > 0


def test_a_draft_model_that_fails_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(HalfRight):
        def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
            raise RuntimeError("no")

    request = make_request(max_tokens=20, ignore_eos=True)
    config = toy_config(**DRAFTING)
    own = draft_config(config)
    drafter = DraftModel(ModelRunner(Failing(), ToyCache(64, 4), own, "cpu"), own)
    runner = ModelRunner(ToyModel(), ToyCache(64, 4), config, "cpu")
    core = EngineCore(config, runner, Scheduler(config, proposer=drafter))
    (outputs,) = run_all(core, [request]).values()
    assert tokens_of(outputs) == greedy_reference(request)
    assert core.stats().is_draft_paused
    assert caplog.text.count("nothing is guessed any more") == 1


def test_the_end_of_an_answer_is_not_guessed() -> None:
    """Behind it nothing is of use, so nothing is computed for it."""
    core, proposer = drafting_core(toy_config(**DRAFTING))
    request = make_request(max_tokens=40, logit_bias={EOS: 100.0}, min_tokens=3)
    (outputs,) = run_all(core, [request]).values()
    assert len(tokens_of(outputs)) == 4
    assert proposer.num_checked > 0


# --- planted bugs: guesses get worse, answers do not ---


def keep_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of guesses that were wrong count as those of the tokens in their place."""

    def mutant(self: Shadow, token_ids: list[int]) -> None:
        own = self.sequence
        own.token_ids[self.num_known :] = token_ids[self.num_known :]
        own.num_computed_tokens = min(own.num_computed_tokens, len(own.token_ids) - 1)
        self.num_known = len(token_ids)

    monkeypatch.setattr(Shadow, "follow", mutant)


def start_behind_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shadow counts one token too many as computed when it starts."""
    start = DraftModel._catch_up

    def mutant(self: DraftModel, shadows: list[Shadow]) -> object:
        for shadow in shadows:
            own = shadow.sequence
            if own.num_computed_tokens == 0 and shadow.num_known > 2:
                own.num_computed_tokens = 1
        return start(self, shadows)

    monkeypatch.setattr(DraftModel, "_catch_up", mutant)


def keep_blocks_of_the_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a preempted or finished sequence held of the draft model's cache stays taken."""

    def mutant(self: DraftModel, sequence: Sequence) -> None:
        sequence.drafters.clear()

    monkeypatch.setattr(DraftModel, "release", mutant)


@pytest.mark.parametrize(
    "mutate",
    [keep_what_is_wrong, start_behind_the_prefix, keep_blocks_of_the_gone],
    ids=lambda plant: plant.__name__,
)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None],
    expected: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin sees it; whoever only reads the answers does not."""
    config = toy_config(**(DRAFTING | {"max_num_seqs": 4}))
    requests = REQUESTS[-8:]
    mutate(monkeypatch)
    core, _ = drafting_core(config)
    with pytest.raises(AssertionError):
        run_all(core, requests)
    monkeypatch.setattr(Checked, "check", lambda *_: None)
    core, _ = drafting_core(config)
    outputs = run_all(core, requests)
    assert {n: answer(o) for n, o in outputs.items()} == {n: expected[n] for n in outputs}
