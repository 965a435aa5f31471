"""A draft model's steps where steps are launched ahead.

    LaunchedSteps   what it catches up with: each step is launched, and read at once
    DraftRounds     its guesses: several steps in a row, from what the served model's step in flight
                    leaves on the device to where its next step looks for drafts

Both are on the stream of the served model's steps, so all is in order.
"""

import time
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from thirdeye.server.engine.drafting.draft_ahead import DraftAhead
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.run_ahead.device_state import DeviceState, SlotField
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


class LaunchedSteps:
    """A `Runner` for whom nothing is ahead: each step is launched, and read at once. What cannot be
    launched `otherwise` runs."""

    def __init__(self, launcher: Launcher, otherwise: Runner) -> None:
        self._launcher, self._otherwise = launcher, otherwise

    def run(self, plan: StepPlan) -> StepResult:
        if not self._launcher.can_launch(plan):
            return self._otherwise.run(plan)
        started = time.perf_counter()
        step = self._launcher.launch(plan)
        step.launched_at = started
        self._launcher.sample(step)
        return step.read()


def steps_for(num_guesses: int) -> int:
    """Of the draft model: the last one computes the last guess, which may be right."""
    return num_guesses + 1


@dataclass(frozen=True, slots=True)
class GuessPlaces:
    """Of n texts, in the order of their rows; [n] or [number of guesses] int64 each."""

    own_slots: Tensor
    slots: Tensor  # of the served model
    guesses: Tensor  # which of the tokens that all texts say, step by step
    drafts: Tensor  # where in `DeviceState.drafts` these go


class DraftRounds:
    """`DeviceGuesses` of the launcher of the served model's steps."""

    def __init__(self, launcher: Launcher, proposer: DraftAhead) -> None:
        """Both are the draft model's; the served model's steps are on the stream of its own."""
        self._launcher, self._proposer, self._stream = launcher, proposer, launcher.stream
        self._sent: tuple[list[int], Tensor] | None = None

    def launch(self, rows: list[PlanRow], slots: list[int], state: DeviceState) -> None:
        self._proposer.guarded(lambda: self._launch(rows, slots, state), None)

    def _launch(self, rows: list[PlanRow], slots: list[int], state: DeviceState) -> None:
        started = self._proposer.now
        own_slots, step = self._launcher.place(self._proposer.own_rows(rows))
        places = self._places(own_slots, rows, slots)
        num_steps = steps_for(max(len(row.draft_token_ids) for row in rows if row.is_guessed_ahead))

        def guess() -> Tensor:
            own = self._launcher.state
            words = state.table[:, : SlotField.POSITION + 1].index_select(0, places.slots)
            own.table[:, : SlotField.POSITION + 1].index_copy_(0, places.own_slots, words)
            said = [step()[: len(own_slots), 1].clone() for _ in range(num_steps)]  # [n] each
            tokens = torch.cat(said).index_select(0, places.guesses).int()
            state.drafts.index_copy_(0, places.drafts, tokens)
            return tokens

        if any(row.num_pending_tokens for row in rows):
            self._stream.run(guess)
            self._proposer.timed(started, num_steps, is_read=False)
        else:  # all was read: now it can be seen how long that takes
            self._stream.submit(guess).wait()
            self._proposer.timed(started, num_steps, is_read=True)

    def _places(self, own_slots: list[int], rows: list[PlanRow], slots: list[int]) -> GuessPlaces:
        """Sent only where they are others than in the step before."""
        first_places = accumulate((1 + len(row.draft_token_ids) for row in rows), initial=0)
        guessed = [
            (slot, first, len(row.draft_token_ids))
            for row, slot, first in zip(rows, slots, first_places, strict=False)
            if row.is_guessed_ahead
        ]
        num_texts = len(guessed)
        each = [(i, j, first) for i, (_, first, num) in enumerate(guessed) for j in range(num)]
        numbers = [
            *own_slots,
            *(slot for slot, _, _ in guessed),
            *(j * num_texts + i for i, j, _ in each),
            *(first + 1 + j for _, j, first in each),
        ]
        if self._sent is None or self._sent[0] != numbers:
            self._sent = numbers, self._launcher.send(numbers)
        sizes = [num_texts, num_texts, len(each), len(each)]
        return GuessPlaces(*torch.split(self._sent[1], sizes))
