"""A step that was launched and not read yet: what it computes, and how its results are read."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    sampled: PendingResult | None = None  # of the sampled rows and their drafts, [S, W]
    drafts: PendingResult | None = None  # those that were made on the device, [S] with 0s
    failed: dict[int, RowResult] = field(default_factory=dict)  # rows that could get no mask
    guessed_at: float | None = None  # when these were; by `time.perf_counter`, as the next
    launched_at: float | None = None  # by `time.perf_counter`; None: others were in flight

    def read(self) -> StepResult:
        """With the seconds since it was launched, if the device had nothing else to do."""
        assert self.sampled is not None, "nothing has been sampled yet"
        if self.drafts is not None:
            self.plan = with_drafts(self.plan, self.drafts.wait().tolist())
        scores = iter(read_sampled(self.scores.wait()) if self.scores is not None else [])
        sampled = iter(read_sampled(self.sampled.wait()))
        results = []
        for i, row in enumerate(self.plan.rows):
            own = list(islice(scores, row.score_end - row.score_start))
            tokens = list(islice(sampled, row.num_samples))
            results.append(self.failed.get(i) or _read_row(row, own, tokens))
        started = self.launched_at
        return StepResult(results, 0.0 if started is None else time.perf_counter() - started)


def with_drafts(plan: StepPlan, token_ids: list[int]) -> StepPlan:
    """The same plan, of which each row and each draft has one of these, as what it was told."""
    left, rows = iter(token_ids), list[PlanRow]()
    for row in plan.rows:
        _, *drafts = islice(left, 1 + len(row.draft_token_ids))
        rows.append(replace(row, draft_token_ids=tuple(drafts)) if row.is_guessed_ahead else row)
    return StepPlan(rows)


def _read_row(row: PlanRow, scores: list[SampledRow], sampled: list[SampledRow]) -> RowResult:
    """`sampled`: behind its last token, and behind each draft."""
    if not all(each.is_finite for each in [*sampled[:1], *scores]):
        return RowResult(error=BROKEN_LOGITS)
    sampling = row.sequence.request.sampling
    prompt_logprobs = _read_logprobs(scores, sampling.prompt_logprobs)
    if not sampled:
        return RowResult(prompt_logprobs=prompt_logprobs)
    accepted = sampled[: 1 + _num_right(row, sampled)]
    token_ids = [each.token_id for each in accepted]
    return RowResult(
        token_ids=token_ids,
        logprobs=_read_logprobs(accepted, sampling.logprobs) or None,
        prompt_logprobs=prompt_logprobs,
        is_complete=is_complete(row.sequence, token_ids),
    )


def _num_right(row: PlanRow, sampled: list[SampledRow]) -> int:
    """Of its drafts, as the device has found it (`DeviceState.accept`)."""
    pairs = zip(row.draft_token_ids, sampled, sampled[1:], strict=False)
    for num_right, (draft, before, own) in enumerate(pairs):
        if before.token_id != draft or not own.is_finite:
            return num_right
    return len(row.draft_token_ids)


def _read_logprobs(rows: list[SampledRow], num_top: int | None) -> list[TokenLogprobs]:
    """With their `num_top` likeliest; nothing if nobody asked for them."""
    if num_top is None:
        return []
    scores = [row.scores for row in rows if row.scores is not None]
    return read_scores(scores, [num_top] * len(scores))
