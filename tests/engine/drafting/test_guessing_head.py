"""A head of the model that guesses: known prefixes, and that its twin finds bugs."""

from collections.abc import Callable

import pytest
import torch

from tests.engine.drafting.conftest import DRAFTING, REQUESTS
from tests.engine.drafting.head_twin import CheckedHead, headed_core
from tests.engine.execution.test_model_runner import answer
from tests.engine.scheduling.speculation.test_speculation import Answers
from tests.engine.toy import make_request, run_all, toy_config
from thirdeye.server.engine.drafting import guessing_head
from thirdeye.server.engine.drafting.guessing_head import HeadProposer, HeadShadow
from thirdeye.server.engine.scheduling.step_plan import PlanRow


def test_behind_a_prefix_that_is_known_it_guesses_at_once() -> None:
    """Its own blocks of the prefix are found, and the hidden state at their end."""
    core, proposer = headed_core(toy_config(**DRAFTING))
    prompt = [1 + i % 7 for i in range(30)]
    run_all(core, [make_request("first", prompt, max_tokens=6, ignore_eos=True)])
    num_checked = proposer.num_checked
    again = make_request("again", [*prompt, 9], max_tokens=20, ignore_eos=True)
    (outputs,) = run_all(core, [again]).values()
    assert outputs[-1].num_cached_tokens == 28
    assert proposer.num_checked > num_checked


# --- planted bugs: guesses get worse, answers do not ---


def keep_its_own_hidden_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed of right guesses, without the model, is not computed again."""

    def mutant(self: HeadShadow, token_ids: list[int]) -> None:
        new, known = token_ids[self.num_known :], self.num_known
        own = self.sequence
        same = [a == b for a, b in zip(new, own.token_ids[known:], strict=False)]
        num_same = same.index(False) if False in same else len(same)
        computed = min(own.num_computed_tokens, known + num_same, self.end - 1)
        if computed > self.first:
            self.before = self.before[computed - self.first :]
            self.first = computed
        own.num_computed_tokens = self.first
        own.token_ids[known:] = new
        self.num_known = len(token_ids)

    monkeypatch.setattr(HeadShadow, "follow", mutant)


def one_token_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is read with its own hidden state, where that is there."""
    before = guessing_head.hidden_before

    def mutant(shadow: HeadShadow, row: PlanRow) -> torch.Tensor:
        found = before(shadow, row)
        return torch.cat([found[1:], found[-1:]])

    monkeypatch.setattr(guessing_head, "hidden_before", mutant)


def any_hidden_state_behind_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hidden state at the end of a known prefix is taken to be zeros."""
    begin = HeadProposer._begin

    def mutant(self: HeadProposer, row: PlanRow) -> HeadShadow:
        shadow = begin(self, row)
        shadow.before = torch.zeros_like(shadow.before)
        return shadow

    monkeypatch.setattr(HeadProposer, "_begin", mutant)


@pytest.mark.parametrize(
    "mutate",
    [keep_its_own_hidden_states, one_token_late, any_hidden_state_behind_a_prefix],
    ids=lambda plant: plant.__name__,
)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None],
    expected: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin sees it; whoever only reads the answers does not."""
    config = toy_config(**(DRAFTING | {"max_num_seqs": 1}))
    mutate(monkeypatch)
    core, _ = headed_core(config)
    with pytest.raises(AssertionError, match="a stale guess"):
        run_all(core, REQUESTS)
    monkeypatch.setattr(CheckedHead, "check", lambda *_: None)
    core, _ = headed_core(config)
    outputs = run_all(core, REQUESTS)
    assert {n: answer(o) for n, o in outputs.items()} == expected
