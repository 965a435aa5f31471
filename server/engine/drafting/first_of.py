"""Two ways to guess, one after the other: what the first has nothing for, the second is asked."""

from collections.abc import Sequence as Seq

from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.speculation.proposer import (
    DraftAsk,
    DraftRoom,
    Proposer,
    ProposerCounts,
)
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


class FirstOf:
    """A `Proposer`. The first is free, like prompt lookup; the second takes time."""

    def __init__(self, first: Proposer, second: Proposer) -> None:
        self._first, self._second = first, second
        self._by_second: set[Sequence] = set()  # who was guessed by it in this step

    @property
    def reads_newest(self) -> bool:
        return self._first.reads_newest or self._second.reads_newest

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        proposed = self._first.propose(asks, room)
        left = [i for i, guesses in enumerate(proposed) if not guesses]
        taken = sum(map(len, proposed))
        rest = DraftRoom(room.num_cheap - taken, room.num_all - taken)
        others = self._second.propose([asks[i] for i in left], rest)  # told, too, that none is left
        for i, guesses in zip(left, others, strict=True):
            proposed[i] = guesses
        self._by_second = {asks[i].sequence for i in left}
        return proposed

    def release(self, sequence: Sequence) -> None:
        self._first.release(sequence)
        self._second.release(sequence)

    def judge(self, row: PlanRow, num_right: int) -> None:
        is_of_second = row.is_guessed_ahead or row.sequence in self._by_second
        (self._second if is_of_second else self._first).judge(row, num_right)

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        self._first.stepped(plan, result)
        self._second.stepped(plan, result)

    def counts(self) -> ProposerCounts:
        return self._second.counts()
