"""Where guesses come from, as the scheduler sees it: a proposer is asked for those of a step.

The kinds are in `server/engine/drafting/`. None of them changes a token: every guess is computed
and compared with what is sampled.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


@dataclass(frozen=True, slots=True)
class DraftAsk:
    """A sequence that decodes in this step, and may have up to `limit` guesses, 1 or more.

    They are for the places `num_ahead` tokens behind its text: those between are in flight.
    """

    sequence: Sequence
    limit: int
    num_ahead: int = 0


@dataclass(frozen=True, slots=True)
class DraftRoom:
    """For the guesses of a step, all together: the first `num_cheap` cost hardly anything, more,
    up to `num_all`, are only for guesses that are nearly certain."""

    num_cheap: int
    num_all: int


class ProposerCounts(NamedTuple):
    """What `EngineStats` says of a proposer."""

    draft_seconds_total: float = 0.0  # in which a model guessed
    is_draft_paused: bool = False  # it guesses nothing for now: it lost more than it won


class Proposer(Protocol):
    """It may keep in `Sequence.drafters[self]` what it likes; nobody else looks at that."""

    @property
    def reads_newest(self) -> bool:
        """Whether there is a text for which it has guesses only if no token is in flight: a step
        that was launched ahead is then read before it is asked."""

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        """Tokens that may follow each of these texts, in order, of which there may be none; none
        where none is worth it; `UNREAD` for each that will be made on the device.

        Texts only grow. Not all of what is proposed need be computed.
        """

    def release(self, sequence: Sequence) -> None:
        """It has ended, or gave its blocks back and waits: keep no memory of its size for it."""

    def judge(self, row: PlanRow, num_right: int) -> None:
        """Of the drafts of a row that was computed, the first so many were right."""

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        """A step was computed. Told before anything else is made of it."""

    def counts(self) -> "ProposerCounts":
        """For whoever watches."""


class FreeGuesses:
    """What is common to proposers whose guesses take no time to speak of: nothing is measured."""

    reads_newest = False

    def release(self, sequence: Sequence) -> None: ...

    def judge(self, row: PlanRow, num_right: int) -> None: ...

    def stepped(self, plan: StepPlan, result: StepResult) -> None: ...

    def counts(self) -> ProposerCounts:
        return ProposerCounts()


class NoGuesses(FreeGuesses):
    """Of an engine that does not speculate."""

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:  # noqa: ARG002
        return [[] for _ in asks]
