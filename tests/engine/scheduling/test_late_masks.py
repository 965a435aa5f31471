"""Masks that come late by any number of steps: who waits for one sits out, and nobody else does.

The machine of `scheduler_machine.py`, in which many requests have a grammar that another process
follows. How late each mask is, where a grammar is over, and whether its process dies is drawn; and
the proof that it finds bugs.
"""

import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from numpy.typing import NDArray

from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of
from tests.engine.scheduling.scheduler_machine import (
    EOS,
    MAX_ARRIVALS,
    SchedulerMachine,
)
from tests.oracles.rules import Rules
from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.step_result import RowResult
from thirdeye.server.engine.interface.types import FinishReason, Request, StepOutput
from thirdeye.server.engine.scheduling.late_masks import LateMasks
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow

IS_PROVING = settings.get_current_profile_name() == "prove"
NEVER = 10**9
LOOKS = (0, 0, 0, 1, 1, 2, 5, NEVER)  # of the scheduler for a mask, before it is there
MOST_LOOKS = 5


class LateText:
    """A grammar that allows everything up to its end; its process may die before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.over_at = chance.choice([1, 3, 6, NEVER])  # tokens
        self.dead_at = chance.choice([2, 4, NEVER, NEVER, NEVER])
        self.num_looks = chance.choice(LOOKS)
        self.told: list[int] = []

    @property
    def late(self) -> "LateText":
        return self

    def is_here(self) -> bool:
        self.num_looks -= self.num_looks > 0
        return not self.num_looks

    def fileno(self) -> int:
        raise AssertionError("nobody waits here")

    def follow(self, token_ids: Seq[int]) -> None:
        assert not self.num_looks, "asked again before it is there"
        self.told, self.num_looks = list(token_ids), self._chance.choice(LOOKS)

    @property
    def is_over(self) -> bool:
        assert not self.num_looks, "asked before it is there"
        return self.over_at <= len(self.told) < self.dead_at

    def fill(self, mask: NDArray[np.int32]) -> None:
        raise AssertionError("masks are for the runner")


class PatientRules(Rules):
    """While the first in order sits out, others have their steps."""

    @property
    def max_steps(self) -> int:
        return (MOST_LOOKS + 1) * super().max_steps


class LateMachine(SchedulerMachine):
    num_states = (0, 0, 3, 5)
    books = PatientRules

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, LateText] = {}

    def send(self, request: Request, is_ready: bool = True) -> None:
        """Two of three have a late grammar, which is ready at once or not."""
        number = len(self.requests)
        if number % 3 == 0:
            return super().send(request, is_ready)
        super().send(request, is_ready=False)
        if is_ready:
            self.finish_grammar(len(self.unready) - 1, True)
        return None

    def make_matcher(self, request_id: str) -> Matcher:
        if int(request_id) % 3 == 0:
            return super().make_matcher(request_id)
        self.texts[request_id] = LateText(random.Random(int(request_id)))
        return self.texts[request_id]

    def late_requests(self) -> set[str]:
        known = self.scheduler._sequences
        return {name for name, text in self.texts.items() if text.num_looks and name in known}

    @precondition(lambda self: self.requests)
    @rule(choice=st.integers(0, MAX_ARRIVALS))
    def a_mask_arrives(self, choice: int) -> None:
        late = sorted(self.late_requests())
        if late:
            self.texts[late[choice % len(late)]].num_looks = 1

    def compute(self, row: PlanRow, chance: random.Random) -> RowResult:
        sequence = row.sequence
        text = self.texts.get(sequence.request.request_id)
        if text is None:
            return super().compute(row, chance)
        assert not row.draft_token_ids, "nobody knows what may follow a guess"
        assert text.told == sequence.token_ids[sequence.num_prompt_tokens :], "not where it is"
        assert not text.is_over, "computed, though it is over"
        if len(text.told) >= text.dead_at:
            return RowResult(error="its process has died")
        return super().compute(row, chance)

    def check_output(self, request: Request, output: StepOutput, is_first: bool) -> None:
        text = self.texts.get(request.request_id)
        if text is None or not self.tokens[request.request_id]:
            return super().check_output(request, output, is_first)
        tokens, sampling = self.tokens[request.request_id], request.sampling
        room = self.config.max_model_len - len(request.prompt_token_ids)
        has_eos = EOS in tokens[max(sampling.min_tokens - 1, 0) :] and not sampling.ignore_eos
        if has_eos:
            assert output.finish_reason is FinishReason.STOP
        elif output.token_ids:
            assert output.finish_reason is None, "ended before its grammar was asked"
        elif text.is_over:
            assert output.finish_reason is FinishReason.STOP
        else:
            assert output.finish_reason is FinishReason.LENGTH
            assert len(tokens) == min(sampling.max_tokens, room)
        return None

    def teardown(self) -> None:
        if hasattr(self, "scheduler"):
            while self.unready:
                self.finish_grammar(0, True)
            for text in self.texts.values():
                text._chance.choice = lambda _: MOST_LOOKS  # type: ignore[method-assign]
                text.num_looks = min(text.num_looks, MOST_LOOKS)
        super().teardown()


@pytest.mark.timeout(900)
class TestLateMasks(LateMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    settings = (
        settings() if IS_PROVING else settings(REPEATABLE, max_examples=60, stateful_step_count=50)
    )


def wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is computed whether its mask is here or not."""
    monkeypatch.setattr(LateMasks, "due", lambda self, sequences: sequences)


def all_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: as long as one mask is missing, no step is computed."""
    due = LateMasks.due

    def mutant(self: LateMasks, sequences: list[Sequence]) -> list[Sequence]:
        here = due(self, sequences)
        return here if len(here) == len(sequences) else []

    monkeypatch.setattr(LateMasks, "due", mutant)


def end_by_length_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token allowed ends the answer before it is known whether it is whole."""
    arrived = LateMasks.arrived

    def mutant(self: LateMasks) -> object:
        return ((s, reason and FinishReason.LENGTH) for s, reason in arrived(self))

    monkeypatch.setattr(LateMasks, "arrived", mutant)


def queue_who_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is preempted while it sits out stands at the head of the queue, and nobody passes."""
    preempt = Scheduler._preempt

    def mutant(self: Scheduler, sequence: Sequence) -> None:
        preempt(self, sequence)
        if sequence in self._late:
            self._waiting.push(sequence)

    monkeypatch.setattr(Scheduler, "_preempt", mutant)


def forget_the_preempted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that arrives for what was preempted meanwhile brings it back to no queue."""

    def mutant(self: Scheduler) -> list[StepOutput]:
        found = [(s, r) for s, r in self._late.arrived() if r is not None]
        return [self._finish(sequence, reason) for sequence, reason in found]

    monkeypatch.setattr(Scheduler, "take_masks", mutant)


def guess_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are computed where no mask can tell what may follow them."""
    from thirdeye.server.engine.scheduling.speculation import speculator

    monkeypatch.setattr(speculator, "_has_masks", lambda row: True)


def keep_who_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is aborted, or late, while it sits out is looked for for ever."""
    monkeypatch.setattr(LateMasks, "leave", lambda self, sequence: None)


MUTATIONS = [
    wait_for_nobody,
    all_wait_for_one,
    end_by_length_first,
    queue_who_is_late,
    forget_the_preempted,
    guess_ahead,
    keep_who_left,
]
FOUND_BY = {keep_who_left: 1, queue_who_is_late: 0}  # seeds, see tests/engine/planted.py


@pytest.mark.parametrize("mutate", MUTATIONS, ids=name_of)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert_finds_the_bug(
        LateMachine, max_examples=1000, num_steps=30, found_by=FOUND_BY.get(mutate)
    )
