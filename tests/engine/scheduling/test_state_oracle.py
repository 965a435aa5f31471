"""The oracle of states over the scheduler's rows, and the proof that it finds bugs."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of, rarely_seen
from tests.engine.scheduling.scheduler_machine import StatesMachine
from thirdeye.server.engine.cache.state_pool import StatePool
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceState
from thirdeye.server.engine.scheduling.sequence_states import SequenceStates
from thirdeye.server.engine.scheduling.step_plan import ZEROS, PlanRow, StepPlan

IS_PROVING = settings.get_current_profile_name() == "prove"


@pytest.mark.timeout(900)
class TestStates(StatesMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """Whatever a step goes on from is the state of exactly the tokens before it."""

    settings = (
        settings() if IS_PROVING else settings(REPEATABLE, max_examples=40, stateful_step_count=50)
    )


def hit_without_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known blocks are used although nobody has kept the state behind them."""
    monkeypatch.setattr(SequenceStates, "usable", lambda self, sequence, num_blocks: num_blocks)


def hit_by_the_nearest_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a shorter prefix is taken for that of all the blocks that were found."""

    def nearest(self: SequenceStates, sequence: Sequence, num_found: int) -> int | None:
        known = (self._pool.find(h) for h in reversed(sequence.block_hashes[:num_found]))
        return next((row for row in known if row is not None), None)

    monkeypatch.setattr(SequenceStates, "_snapshot", nearest)
    hit_without_its_state(monkeypatch)


def lose_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that is gone on from is not held: others may write over it in the same step."""
    monkeypatch.setattr(StatePool, "share", lambda self, row: None)


def keep_the_state_at_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed anew goes on from the state that it had reached."""
    start = SequenceStates.start

    def mutant(self: SequenceStates, sequence: Sequence, num_found: int) -> None:
        start(self, sequence, num_found)
        if sequence.num_preemptions and sequence.state and sequence.state.current == ZEROS:
            sequence.state.current = sequence.state.own

    monkeypatch.setattr(SequenceStates, "start", mutant)


def go_on_from_rejected_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step with drafts the state is that of all of them."""
    settle = SequenceStates.settle

    def mutant(self: SequenceStates, row: PlanRow, num_accepted: int) -> None:
        settle(self, row, len(row.draft_token_ids))

    monkeypatch.setattr(SequenceStates, "settle", mutant)


def draft_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are computed into the sequence's own row, and it is gone on from that."""
    draft_spans = SequenceStates.draft_spans

    def mutant(self: SequenceStates, row: PlanRow, num_drafts: int) -> Any:
        spans = draft_spans(self, row, num_drafts)
        assert row.sequence.state is not None
        own = row.sequence.state.own
        if num_drafts:
            self._pool.free(spans[-1].target)
            return (*spans[:-1], spans[-1]._replace(target=own, is_taken=False))
        return spans

    monkeypatch.setattr(SequenceStates, "draft_spans", mutant)


def publish_before_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot can be found as soon as it is planned."""
    plan = SequenceStates.plan

    def mutant(self: SequenceStates, row: PlanRow) -> PlanRow:
        planned = plan(self, row)
        for span in planned.state_spans:
            if span.is_taken:
                self._pool.publish(span.target, self._hash_behind(row.sequence, span.end))
        return planned

    monkeypatch.setattr(SequenceStates, "plan", mutant)


def publish_its_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is not a row of its own, but the one that its sequence goes on to write."""

    def mutant(self: SequenceStates, sequence: Sequence, state: SequenceState, span: Any) -> None:
        self._pool.publish(state.own, self._hash_behind(sequence, span.end))

    monkeypatch.setattr(SequenceStates, "_publish", mutant)


def keep_the_rows_of_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step has taken for snapshots is lost when it fails."""
    monkeypatch.setattr(SequenceStates, "drop", lambda self, row: None)


def publish_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots of a failed step are found although they were never written."""
    fail = Scheduler.fail

    def mutant(self: Scheduler, plan: StepPlan, error: str) -> Any:
        for row in plan.rows:
            for span in row.state_spans:
                if span.is_taken and span.end <= row.real_end:
                    states: Any = self._states
                    states._pool.publish(span.target, states._hash_behind(row.sequence, span.end))
        return fail(self, plan, error)

    monkeypatch.setattr(Scheduler, "fail", mutant)


MUTATIONS = [
    hit_without_its_state,
    hit_by_the_nearest_state,
    lose_the_source,
    keep_the_state_at_preemption,
    go_on_from_rejected_drafts,
    draft_in_place,
    publish_before_computed,
    publish_its_own_state,
    keep_the_rows_of_a_failed_step,
    rarely_seen(publish_what_failed),
]
FOUND_BY = {publish_before_computed: 17}  # seeds, see tests/engine/planted.py


@pytest.mark.parametrize("mutate", MUTATIONS, ids=name_of)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert_finds_the_bug(
        StatesMachine, max_examples=2000, num_steps=30, found_by=FOUND_BY.get(mutate)
    )
