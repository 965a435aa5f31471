"""One step on the device: plan -> tensors -> model -> logits -> tokens, and back to plain numbers.

The model is anything that maps a `ForwardBatch` and a KV cache to logits [S, vocab_size], one row
for each of `batch.logits_indices` (none at all while only the middle of prompts is computed). A row
whose logits are broken, or whose processors fail, is an error of that request alone.

A row with drafts is sampled at every one of them, each time as if the drafts before it were the
answer so far. Noise is a function of (seed, position) and processors of the tokens so far, so these
are the tokens that would be sampled one by one, as long as the drafts agree with them. The first
that disagrees is itself the next token; what comes after it is thrown away.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from itertools import count
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.execution.decoder import Decode, Decoder
from thirdeye.server.engine.execution.input_batch import NO_SLOTS, build_batch
from thirdeye.server.engine.execution.logit_rows import LogitSpan, make_spans, samples_of
from thirdeye.server.engine.grammar.bitmask import is_complete
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.pooling import FRACTION_BITS, MAX_HIDDEN
from thirdeye.server.engine.interface.step_result import BROKEN_LOGITS, RowResult, StepResult
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.engine.sampling.host_sampler import HostSampler
from thirdeye.server.engine.sampling.logits_processors import make_processors
from thirdeye.server.engine.sampling.logprobs import token_logprobs
from thirdeye.server.engine.sampling.native_sampler import NativeSampler
from thirdeye.server.engine.sampling.sampler import NO_TOKEN, Sampler, sample
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

Cache = TypeVar("Cache", contravariant=True)


class StepModel(Protocol[Cache]):
    def __call__(self, batch: ForwardBatch, kv_cache: Cache, /) -> Tensor: ...

    def with_hidden(self, batch: ForwardBatch, kv_cache: Cache, /) -> tuple[Tensor, Tensor]:
        """The same logits, and the normed final hidden states, [T, hidden_size]."""


class Runner(Protocol):
    """What `EngineCore` needs of a runner."""

    def run(self, plan: StepPlan) -> StepResult: ...


class ModelRunner:
    """Runs plans on one model with one KV cache."""

    def __init__(
        self,
        model: StepModel[Cache],
        kv_cache: Cache,
        config: EngineConfig,
        device: torch.device | str,
        sampler: Sampler = sample,
        adapter_slots: Mapping[int, int] = NO_SLOTS,
        *,
        tells_hidden: bool = False,
        decode: Decode | None = None,
    ) -> None:
        """`adapter_slots`: where the model's adapters lie, of those that are loaded now.
        `tells_hidden`: results have the final hidden states. `decode`: what computes some of the
        steps that decode more quickly (`Decoder`)."""
        self._decoder: Decoder | None = None
        if decode is not None and isinstance(sampler, NativeSampler) and not tells_hidden:
            self._decoder = Decoder(decode, sampler, config.block_size)
        self._tells_hidden = tells_hidden
        self._forward: Callable[[ForwardBatch], Tensor] = lambda batch: model(batch, kv_cache)
        self._forward_hidden: Callable[[ForwardBatch], tuple[Tensor, Tensor]] = lambda batch: (
            model.with_hidden(batch, kv_cache)
        )
        self._block_size = config.block_size
        self._device = torch.device(device)
        self._adapter_slots = adapter_slots
        self._sample = HostSampler(sampler, make_processors(config.eos_token_ids))

    def run(self, plan: StepPlan) -> StepResult:
        """Compute a plan of one row or more. What it raises concerns the whole step."""
        started = time.perf_counter()
        logits = self._decoder.logits(plan.rows) if self._decoder else None
        if logits is None:
            return self._run_in_torch(plan, started)
        computed = time.perf_counter()
        assert self._decoder is not None
        rows = self._decoder.choose(logits, plan.rows)
        if rows is None:
            with torch.inference_mode():
                rows = self._read(logits, make_spans(plan.rows))
        return StepResult(rows, computed - started, time.perf_counter() - computed)

    def _run_in_torch(self, plan: StepPlan, started: float) -> StepResult:
        with torch.inference_mode():
            logits, hidden = self._compute(plan)
            computed = time.perf_counter()
            rows = self._read(logits, make_spans(plan.rows))
            if hidden is not None and has_embedding(plan):
                rows = with_sums(rows, plan.rows, hidden)
        return StepResult(
            rows,
            forward_seconds=computed - started,
            sample_seconds=time.perf_counter() - computed,
            hidden=hidden if self._tells_hidden else None,
        )

    def _compute(self, plan: StepPlan) -> tuple[Tensor, Tensor | None]:
        """Logits [S, vocab_size], and hidden states [T, hidden_size] if anybody asks for them."""
        batch = build_batch(plan, self._block_size, self._device, self._adapter_slots)
        if not (self._tells_hidden or has_embedding(plan)):
            return self._forward(batch).float(), None
        logits, hidden = self._forward_hidden(batch)
        return logits.float(), hidden

    def _read(self, logits: Tensor, spans: Seq[LogitSpan]) -> list[RowResult]:
        """logits [S, vocab_size] -> what they mean for each row of the plan."""
        sampled = self._sample(logits, list(samples_of(spans)))
        failed, broken = sampled.failed, sampled.broken
        token_ids = sampled.token_ids
        accepted = [span.accepted(token_ids, broken | failed.keys()) for span in spans]
        logprobs = score(logits, spans, accepted, token_ids)
        results: list[RowResult] = []
        for span, own in zip(spans, accepted, strict=True):
            if not broken.isdisjoint([*span.scores, *own]):
                results.append(RowResult(error=BROKEN_LOGITS))
            elif errors := [failed[i] for i in own if i in failed]:
                results.append(errors[0])
            else:
                results.append(make_result(span, own, token_ids, logprobs))
        return results


def has_embedding(plan: StepPlan) -> bool:
    return True in [row.is_embedding for row in plan.rows]


def score(
    logits: Tensor, spans: Seq[LogitSpan], accepted: Seq[range], chosen: Seq[int]
) -> dict[int, TokenLogprobs]:
    """Logprobs, by row of the logits, of prompt tokens and new tokens where they are wanted."""
    wanted = [
        entry
        for span, own in zip(spans, accepted, strict=True)
        for entry in wanted_scores(span, own, chosen)
    ]
    if not wanted:
        return {}
    indices, token_ids, num_top = (list(column) for column in zip(*wanted, strict=True))
    targets = torch.tensor(token_ids, device=logits.device)
    return dict(zip(indices, token_logprobs(logits[indices], targets, num_top), strict=True))


def wanted_scores(
    span: LogitSpan, accepted: range, chosen: Seq[int]
) -> Iterator[tuple[int, int, int]]:
    """(row of the logits, token id, number of likeliest) for each logprob a plan row asks for."""
    sequence, sampling = span.row.sequence, span.row.sequence.request.sampling
    if sampling.prompt_logprobs is not None:
        for i, position in zip(span.scores, count(span.row.score_start + 1)):
            yield i, sequence.token_ids[position], sampling.prompt_logprobs
    if sampling.logprobs is not None:
        for i in accepted:
            if chosen[i] != NO_TOKEN:
                yield i, chosen[i], sampling.logprobs


def with_sums(results: Seq[RowResult], rows: Seq[PlanRow], hidden: Tensor) -> list[RowResult]:
    """The results, with the sums of the hidden states [T, hidden_size] of each embedding's row."""
    pieces = torch.split(hidden, [row.num_scheduled_tokens for row in rows])
    return [
        replace(r, **sum_hidden(piece)) if row.is_embedding else r
        for r, row, piece in zip(results, rows, pieces, strict=True)
    ]


def sum_hidden(hidden: Tensor) -> dict[str, Any]:
    """hidden [num_tokens, hidden_size] -> what the row's result says about them."""
    if not hidden.isfinite().all():
        return {"error": BROKEN_LOGITS}
    bounded = hidden.double().clamp(-MAX_HIDDEN, MAX_HIDDEN)
    fixed = (bounded * 2.0**FRACTION_BITS).round().long()  # exact: float32 has 24 bits
    return {"hidden_sums": fixed.sum(0).tolist()}


def make_result(
    span: LogitSpan, accepted: range, chosen: Seq[int], logprobs: dict[int, TokenLogprobs]
) -> RowResult:
    sequence = span.row.sequence
    has_logprobs = sequence.request.sampling.logprobs is not None
    token_ids = [chosen[i] for i in accepted]
    return RowResult(
        token_ids=token_ids,
        logprobs=[logprobs[i] for i in accepted] if accepted and has_logprobs else None,
        prompt_logprobs=[logprobs[i] for i in span.scores],
        is_complete=is_complete(sequence, token_ids),
    )
