"""A step on its way: what was launched, and how what it said is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from thirdeye.server.engine.grammar.bitmask import is_complete
from thirdeye.server.engine.interface.step_result import BROKEN_LOGITS, RowResult, StepResult
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.engine.run_ahead.cuda_stream import Ticket
from thirdeye.server.engine.run_ahead.decode_step import Choice, read_choices
from thirdeye.server.engine.run_ahead.device_bitmask import ToldMasks
from thirdeye.server.engine.sampling.logprobs import read_scores
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

Choose = Callable[[ToldMasks | None], Tensor]


@dataclass(slots=True)
class Flight:
    """A step that was launched. `read` waits for it.

    It is complete once its choice is submitted as well: at once, unless rows wait for a mask.
    """

    plan: StepPlan
    choose: Choose
    masked: list[tuple[int, int]]  # (row of the plan, slot) of the sampled rows with a grammar
    scores: Ticket | None = None  # of prompts, [L, W]
    choices: Ticket | None = None  # of the sampled rows, [S, W]
    failed: dict[int, RowResult] = field(default_factory=dict)  # rows that could get no mask

    def read(self) -> StepResult:
        assert self.choices is not None, "nothing has been chosen yet"
        scores = iter(read_choices(self.scores.wait()) if self.scores is not None else [])
        choices = iter(read_choices(self.choices.wait()))
        results = []
        for i, row in enumerate(self.plan.rows):
            own = list(islice(scores, row.score_end - row.score_start))
            choice = next(choices) if row.is_sampled else None
            results.append(self.failed.get(i) or _read_row(row, own, choice))
        return StepResult(results)


def _read_row(row: PlanRow, scores: list[Choice], choice: Choice | None) -> RowResult:
    is_broken = choice is not None and not choice.is_finite
    if is_broken or not all(score.is_finite for score in scores):
        return RowResult(error=BROKEN_LOGITS)
    sampling = row.sequence.request.sampling
    prompt_logprobs = _read_logprobs(scores, sampling.prompt_logprobs)
    if choice is None:
        return RowResult(prompt_logprobs=prompt_logprobs)
    return RowResult(
        token_ids=[choice.token_id],
        logprobs=_read_logprobs([choice], sampling.logprobs) or None,
        prompt_logprobs=prompt_logprobs,
        is_complete=is_complete(row.sequence, [choice.token_id]),
    )


def _read_logprobs(choices: list[Choice], num_top: int | None) -> list[TokenLogprobs]:
    """With their `num_top` likeliest; nothing if nobody asked for them."""
    if num_top is None:
        return []
    scores = [choice.scores for choice in choices if choice.scores is not None]
    return read_scores(scores, [num_top] * len(scores))
