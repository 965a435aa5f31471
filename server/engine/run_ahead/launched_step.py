"""A step that was launched and not read yet: what it computes, and how its results are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from thirdeye.server.engine.grammar.bitmask import is_complete
from thirdeye.server.engine.interface.step_result import BROKEN_LOGITS, RowResult, StepResult
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.engine.run_ahead.cuda_stream import PendingResult
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_sampler import SampledRow, read_sampled
from thirdeye.server.engine.sampling.logprobs import read_scores
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

SampleWork = Callable[[MaskUpdate | None], Tensor]


@dataclass(slots=True)
class LaunchedStep:
    """A step that was launched. `read` waits for it.

    It is complete once its sampling is submitted as well: at once, unless rows wait for a mask.
    """

    plan: StepPlan
    sample: SampleWork
    masked: list[tuple[int, int]]  # (row of the plan, slot) of the sampled rows with a grammar
    scores: PendingResult | None = None  # of prompts, [L, W]
    sampled: PendingResult | None = None  # of the sampled rows, [S, W]
    failed: dict[int, RowResult] = field(default_factory=dict)  # rows that could get no mask

    def read(self) -> StepResult:
        assert self.sampled is not None, "nothing has been sampled yet"
        scores = iter(read_sampled(self.scores.wait()) if self.scores is not None else [])
        sampled = iter(read_sampled(self.sampled.wait()))
        results = []
        for i, row in enumerate(self.plan.rows):
            own = list(islice(scores, row.score_end - row.score_start))
            token = next(sampled) if row.is_sampled else None
            results.append(self.failed.get(i) or _read_row(row, own, token))
        return StepResult(results)


def _read_row(row: PlanRow, scores: list[SampledRow], sampled: SampledRow | None) -> RowResult:
    is_broken = sampled is not None and not sampled.is_finite
    if is_broken or not all(score.is_finite for score in scores):
        return RowResult(error=BROKEN_LOGITS)
    sampling = row.sequence.request.sampling
    prompt_logprobs = _read_logprobs(scores, sampling.prompt_logprobs)
    if sampled is None:
        return RowResult(prompt_logprobs=prompt_logprobs)
    return RowResult(
        token_ids=[sampled.token_id],
        logprobs=_read_logprobs([sampled], sampling.logprobs) or None,
        prompt_logprobs=prompt_logprobs,
        is_complete=is_complete(row.sequence, [sampled.token_id]),
    )


def _read_logprobs(rows: list[SampledRow], num_top: int | None) -> list[TokenLogprobs]:
    """With their `num_top` likeliest; nothing if nobody asked for them."""
    if num_top is None:
        return []
    scores = [row.scores for row in rows if row.scores is not None]
    return read_scores(scores, [num_top] * len(scores))
