"""A step's logits to its tokens, with what the host knows of each sequence.

    logits [S, vocab_size] -> the sampler, with masks -> tokens
                   |                                    ^
                   `-> copies of a few rows: masks, biases, penalties -> the sampler

All rows go through the sampler at once and stay as they are: logprobs are of the raw logits. A
grammar reaches the sampler as a mask of bits. The few rows that ask for more are copied, changed
and sampled by themselves. What goes wrong with one row is its error alone.
"""

import logging
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.server.engine.grammar.bitmask import (
    NO_MASKS,
    RowMasks,
    apply_masks,
    empty_masks,
    fill_mask,
)
from thirdeye.server.engine.interface.grammar_protocol import GrammarError
from thirdeye.server.engine.interface.history import History, Sample
from thirdeye.server.engine.interface.step_result import RowResult
from thirdeye.server.engine.interface.types import ErrorCode
from thirdeye.server.engine.sampling.logits_processors import Processor, is_processed
from thirdeye.server.engine.sampling.sampler import (
    GREEDY,
    NO_TOKEN,
    DrawParams,
    Sampler,
    make_draw_params,
)

logger = logging.getLogger(__name__)

BROKEN_PARAMS = "The sampling parameters of this request could not be applied."


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """What became of each row of the logits."""

    token_ids: list[int]  # [S]; where no token was asked for, the likeliest
    failed: dict[int, RowResult]  # why a sample has none

    @property
    def broken(self) -> set[int]:
        """The rows that are no numbers, or leave nothing to choose from."""
        return {i for i, token_id in enumerate(self.token_ids) if token_id == NO_TOKEN}


class HostSampler:
    def __init__(self, sampler: Sampler, processors: Seq[Processor]) -> None:
        self._sampler, self._processors = sampler, processors

    def __call__(self, logits: Tensor, samples: Seq[Sample]) -> SampledTokens:
        """logits [S, vocab_size], samples in the order of their rows."""
        masks, failed = fill_masks(samples, logits.shape[-1])
        draw_params, positions = [GREEDY] * logits.shape[0], [0] * logits.shape[0]
        others: list[Sample] = []
        for sample in samples:
            if is_processed(sample.history):
                others.append(sample)
            else:
                draw_params[sample.row] = make_draw_params(sample.history.request.sampling)
                positions[sample.row] = sample.position
        token_ids = self._sampler(logits, draw_params, positions, masks)
        others = [sample for sample in others if sample.row not in failed]
        if others:
            rows = torch.tensor([sample.row for sample in others], device=logits.device)
            is_usable = token_ids[rows] != NO_TOKEN
            changed = self._process(logits[rows], others, masks, failed)
            token_ids[rows] = changed.where(is_usable, NO_TOKEN)
        return SampledTokens(token_ids.tolist(), failed)  # the one copy to the host

    def _process(
        self, logits: Tensor, samples: Seq[Sample], masks: RowMasks, failed: dict[int, RowResult]
    ) -> Tensor:
        """logits [len(samples), vocab_size], which are changed -> token ids [len(samples)]."""
        apply_masks(logits, masks.of([sample.row for sample in samples]))
        draw_params: list[DrawParams] = []
        for row, sample in zip(logits, samples, strict=True):
            draw_params.append(make_draw_params(sample.history.request.sampling))
            with recording_failure(failed, sample.row, sample.history):
                for processor in self._processors:
                    processor(row, sample.history)
        return self._sampler(logits, draw_params, [sample.position for sample in samples])


def fill_masks(samples: Seq[Sample], vocab_size: int) -> tuple[RowMasks, dict[int, RowResult]]:
    """The masks of the samples that have a grammar; and why some have none."""
    constrained = [sample for sample in samples if sample.history.request.is_constrained]
    if not constrained:
        return NO_MASKS, {}
    words, rows = empty_masks(len(constrained), vocab_size), list[int]()
    failed: dict[int, RowResult] = {}
    for sample in constrained:
        with recording_failure(failed, sample.row, sample.history):
            fill_mask(sample.history, words[len(rows)])
            rows.append(sample.row)
    return RowMasks(rows, words[: len(rows)]), failed


@contextmanager
def recording_failure(failed: dict[int, RowResult], row: int, history: History) -> Iterator[None]:
    """What goes wrong inside is noted, fit for the client; that a grammar refuses a draft is
    nothing to log."""
    try:
        yield
    except GrammarError as error:
        failed[row] = RowResult(error=str(error), error_code=ErrorCode.INVALID_GRAMMAR)
    except Exception:
        logger.exception("request %s: a logits processor failed", history.request.request_id)
        failed[row] = RowResult(error=BROKEN_PARAMS)
