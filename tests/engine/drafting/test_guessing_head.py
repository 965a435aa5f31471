"""A head that guesses changes how many steps an answer takes, and nothing else about it; and it
guesses what it would guess if it kept nothing and read the whole text anew."""

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.engine.drafting.head_twin import CheckedHead, headed_core
from tests.engine.drafting.test_draft_model import DRAFTING, MORE_SIZES, REQUESTS
from tests.engine.execution.test_model_runner import alone, answer
from tests.engine.scheduling.speculation.test_speculation import Answers, all_requests
from tests.engine.toy import drain, make_request, run_all, toy_config
from thirdeye.server.engine.drafting import guessing_head
from thirdeye.server.engine.drafting.guessing_head import HeadProposer, HeadShadow
from thirdeye.server.engine.interface.types import StepOutput
from thirdeye.server.engine.scheduling.step_plan import PlanRow


@pytest.fixture(scope="module")
def expected() -> Answers:
    torch.set_num_threads(1)
    return alone(REQUESTS)


@pytest.mark.parametrize(
    ("name", "num_blocks"),
    [
        ("batched", 64),
        ("batched", 24),
        ("alone, one after the other", 64),
        ("without prefix cache", 64),
        ("small chunks", 64),
        ("starved, chunked", 64),
    ],
)
def test_same_answers_and_no_stale_guess(name: str, num_blocks: int, expected: Answers) -> None:
    config = toy_config(**(DRAFTING | MORE_SIZES[name]))
    core, proposer = headed_core(config, num_blocks)
    outputs = run_all(core, REQUESTS)
    assert {name: answer(of_one) for name, of_one in outputs.items()} == expected
    stats = core.stats()
    assert proposer.num_checked > 0
    assert stats.spec_decode_num_accepted_tokens_total > 0
    assert stats.spec_decode_num_accepted_tokens_total < stats.spec_decode_num_draft_tokens_total
    assert proposer._pool.num_used == 0


@draws(3, 40)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_same_answers_for_any_sizes_and_aborts(data: st.DataObject, seed: int) -> None:
    requests = random.Random(seed).sample(all_requests(seed), 6)
    plain = alone(requests)
    max_num_seqs = data.draw(st.integers(1, 5))
    config = toy_config(
        num_blocks=data.draw(st.sampled_from([32, 40, 128])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + data.draw(st.integers(0, 30)),
        num_draft_tokens=data.draw(st.integers(1, 20)),
        max_tokens_with_drafts=data.draw(st.integers(2, 64)),
        enable_prefix_caching=data.draw(st.booleans()),
    )
    core, proposer = headed_core(config, data.draw(st.integers(4, 128)))
    for request in requests:
        core.add(request)
    gone = data.draw(st.sampled_from(requests)).request_id
    outputs: dict[str, list[StepOutput]] = {}
    for _ in range(data.draw(st.integers(0, 12))):
        for output in core.step():
            outputs.setdefault(output.request_id, []).append(output)
    core.abort(gone)
    for name, more in drain(core).items():
        outputs.setdefault(name, []).extend(more)
    for request in requests:
        if request.request_id != gone:
            assert answer(outputs[request.request_id]) == plain[request.request_id]
    assert not proposer._has_failed
    assert proposer._pool.num_used == 0


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
