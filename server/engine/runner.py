"""One step on the device: plan -> tensors -> model -> logits -> tokens, and back to plain numbers.

The model is anything that maps a `ForwardBatch` and a KV cache to logits [S, vocab_size], one row
for each of `batch.logits_indices` (none at all while only the middle of prompts is computed). A row
whose logits are broken, or whose processors fail, is an error of that request alone.
"""

import logging
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from model.batch import ForwardBatch
from server.engine.config import EngineConfig
from server.engine.inputs import build_batch
from server.engine.logits import is_processed, make_processors
from server.engine.logprobs import token_logprobs
from server.engine.plan import PlanRow, RowResult, StepPlan, StepResult
from server.engine.sampler import sample
from server.engine.sequence import Sequence
from server.engine.types import TokenLogprobs

logger = logging.getLogger(__name__)

BROKEN_LOGITS = "The model's output for this request is not a number."
BROKEN_PARAMS = "The sampling parameters of this request could not be applied."

Cache = TypeVar("Cache", contravariant=True)


class Model(Protocol[Cache]):
    def __call__(self, batch: ForwardBatch, kv_cache: Cache, /) -> Tensor: ...


class Runner(Protocol):
    """What `EngineCore` needs of a runner."""

    def run(self, plan: StepPlan) -> StepResult: ...


@dataclass(frozen=True, slots=True)
class Span:
    """Where a plan row's logits lie: `[start, stop)`, of which the last is its sample, if any."""

    row: PlanRow
    start: int
    stop: int

    @property
    def sample(self) -> int | None:
        return self.stop - 1 if self.row.is_sampled else None

    @property
    def scores(self) -> range:
        """The logits that score the prompt's tokens."""
        return range(self.start, self.stop - self.row.is_sampled)


class ModelRunner:
    """Runs plans on one model with one KV cache."""

    def __init__(
        self, model: Model[Cache], kv_cache: Cache, config: EngineConfig, device: torch.device | str
    ) -> None:
        self._forward: Callable[[ForwardBatch], Tensor] = lambda batch: model(batch, kv_cache)
        self._block_size = config.block_size
        self._device = torch.device(device)
        self._processors = make_processors(config.eos_token_ids)

    def run(self, plan: StepPlan) -> StepResult:
        """Compute a plan of one row or more. What it raises concerns the whole step."""
        started = time.perf_counter()
        with torch.inference_mode():
            logits = self._forward(build_batch(plan, self._block_size, self._device)).float()
            computed = time.perf_counter()
            result = self._read(logits, make_spans(plan.rows))
        sampled = time.perf_counter()
        return replace(
            result, forward_seconds=computed - started, sample_seconds=sampled - computed
        )

    def _read(self, logits: Tensor, spans: Seq[Span]) -> StepResult:
        """logits [S, vocab_size] -> what they mean for each row of the plan."""
        is_finite = logits.amax(-1).isfinite()  # [S], NaN anywhere in a row makes its maximum NaN
        sampled = [span for span in spans if span.row.is_sampled]
        token_ids, failed = self._sample(logits, sampled)  # [len(sampled)]
        host = torch.cat([is_finite.long(), token_ids]).tolist()  # the one copy to the host
        samples = [span.stop - 1 for span in sampled]
        chosen = dict(zip(samples, host[len(logits) :], strict=True))
        logprobs = score(logits, spans, chosen)
        results: list[RowResult] = []
        for span in spans:
            if not all(host[span.start : span.stop]):
                results.append(RowResult(error=BROKEN_LOGITS))
            elif span.sample in failed:
                results.append(RowResult(error=BROKEN_PARAMS))
            else:
                results.append(make_result(span, chosen, logprobs))
        return StepResult(results)

    def _sample(self, logits: Tensor, sampled: Seq[Span]) -> tuple[Tensor, set[int | None]]:
        """Token ids of the sampled rows, and the logits rows of those that failed."""
        if not sampled:
            return torch.empty(0, dtype=torch.int64, device=self._device), set()
        indices = torch.tensor([span.sample for span in sampled], device=self._device)
        rows = logits[indices]  # [len(sampled), vocab_size], a copy: processors write in place
        sequences = [span.row.sequence for span in sampled]
        failed = {
            span.sample
            for row, span, sequence in zip(rows, sampled, sequences, strict=True)
            if is_processed(sequence) and not self._process(row, sequence)
        }
        samplings = [sequence.request.sampling for sequence in sequences]
        return sample(rows, samplings, [span.row.end for span in sampled]), failed

    def _process(self, logits: Tensor, sequence: Sequence) -> bool:
        try:
            for processor in self._processors:
                processor(logits, sequence)
        except Exception:
            logger.exception("request %s: a logits processor failed", sequence.request.request_id)
            return False
        return True


def make_spans(rows: Seq[PlanRow]) -> list[Span]:
    """The logits of a step, cut by plan row."""
    spans: list[Span] = []
    start = 0
    for row in rows:
        stop = start + row.score_end - row.score_start + row.is_sampled
        spans.append(Span(row, start, stop))
        start = stop
    return spans


def score(logits: Tensor, spans: Seq[Span], chosen: dict[int, int]) -> dict[int, TokenLogprobs]:
    """Logprobs, by row of the logits, of prompt tokens and chosen tokens where they are wanted."""
    wanted = [entry for span in spans for entry in wanted_scores(span, chosen)]
    if not wanted:
        return {}
    indices, token_ids, num_top = (list(column) for column in zip(*wanted, strict=True))
    targets = torch.tensor(token_ids, device=logits.device)
    return dict(zip(indices, token_logprobs(logits[indices], targets, num_top), strict=True))


def wanted_scores(span: Span, chosen: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """(row of the logits, token id, number of likeliest) for each logprob a plan row asks for."""
    sequence, sampling = span.row.sequence, span.row.sequence.request.sampling
    if sampling.prompt_logprobs is not None:
        for i, position in zip(span.scores, count(span.row.score_start + 1)):
            yield i, sequence.token_ids[position], sampling.prompt_logprobs
    if sampling.logprobs is not None and span.sample is not None:
        yield span.sample, chosen[span.sample], sampling.logprobs


def make_result(
    span: Span, chosen: dict[int, int], logprobs: dict[int, TokenLogprobs]
) -> RowResult:
    prompt_logprobs = [logprobs[i] for i in span.scores]
    if span.sample is None:
        return RowResult(prompt_logprobs=prompt_logprobs)
    return RowResult(
        token_ids=[chosen[span.sample]],
        logprobs=[logprobs[span.sample]] if span.sample in logprobs else None,
        prompt_logprobs=prompt_logprobs,
    )
