"""Steps that decode, by kernels alone: numbers to the model's tape, logits to tokens.

    PlanRow -> ids, positions, blocks -> tape -> logits [T, vocab_size] -> token ids -> RowResult

Nothing here calls torch or numpy: once a model's weights have passed through the caches, each
function of theirs is fetched from memory anew, and takes ten times as long as otherwise. Whatever
these rows do not say (prompts, grammars, penalties, logprobs) goes the long way.
"""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

from torch import Tensor

from thirdeye.model.batch import PlainStep
from thirdeye.server.engine.execution.input_batch import is_plainly_decoded
from thirdeye.server.engine.execution.logit_rows import LogitSpan, make_spans
from thirdeye.server.engine.interface.step_result import BROKEN_LOGITS, RowResult
from thirdeye.server.engine.sampling.logits_processors import is_processed
from thirdeye.server.engine.sampling.native_sampler import NativeSampler
from thirdeye.server.engine.sampling.sampler import NO_TOKEN, DrawParams, make_draw_params
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow

Decode = Callable[[PlainStep], Tensor | None]


class Decoder:
    def __init__(self, decode: Decode, sampler: NativeSampler, block_size: int) -> None:
        """`decode`: logits of a step that is small enough, and whose shape is on tape."""
        self._decode, self._choose, self._block_size = decode, sampler.choose, block_size

    def logits(self, rows: Seq[PlanRow]) -> Tensor | None:
        """[T, vocab_size] float32, good until the next step; None: it is not such a step."""
        token_ids: list[int] = []
        for row in rows:
            if not is_plainly_decoded(row) or row.is_embedding or row.sequence.request.adapter:
                return None
            token_ids += (row.sequence.token_ids[row.start], *row.draft_token_ids)
        step = PlainStep(
            token_ids,
            starts=[row.start for row in rows],
            counts=[row.num_samples for row in rows],
            tables=[seen_blocks(row) for row in rows],
            block_size=self._block_size,
        )
        return self._decode(step)

    def choose(self, logits: Tensor, rows: Seq[PlanRow]) -> list[RowResult] | None:
        """What the logits mean for each row; None: one of them asks for more than a token."""
        if not all(map(is_chosen_alone, rows)):
            return None
        params: list[DrawParams] = []
        positions: list[int] = []
        for row in rows:
            params += [draw_params_of(row.sequence)] * row.num_samples
            positions += range(row.real_end, row.end + 1)
        return results_of(self._choose(logits, params, positions), make_spans(rows))


def is_chosen_alone(row: PlanRow) -> bool:
    """Whether its tokens are chosen from the logits as they are, and nothing else is told."""
    request = row.sequence.request
    has_more = request.is_constrained or request.sampling.logprobs is not None
    return not (has_more or is_processed(row.sequence))


def draw_params_of(sequence: Sequence) -> DrawParams:
    """Made in its first step, kept for all others."""
    params: DrawParams | None = sequence.draw_params
    if params is None:
        params = sequence.draw_params = make_draw_params(sequence.request.sampling)
    return params


def seen_blocks(row: PlanRow) -> list[int]:
    """Of the only group, with 0 for those that were given back."""
    blocks = row.sequence.blocks
    behind, table = blocks.num_behind[0], blocks.tables[0]
    return [0] * behind + table[behind:] if behind else table


def results_of(chosen: Seq[int], spans: Iterable[LogitSpan]) -> list[RowResult]:
    """Of samples, in the order of their logits, what counts."""
    broken = {i for i, token_id in enumerate(chosen) if token_id == NO_TOKEN}
    results: list[RowResult] = []
    for span in spans:
        own = [chosen[i] for i in span.accepted(chosen, broken)]
        is_broken = NO_TOKEN in own
        results.append(RowResult(error=BROKEN_LOGITS) if is_broken else RowResult(token_ids=own))
    return results
