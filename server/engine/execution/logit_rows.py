"""Where in a step's logits each row of its plan has its own, and where tokens are chosen.

    logits   |<- scores ->|<- samples ->|<- scores ->|<- samples ->| ...
             |<------- plan row ------->|<------- plan row ------->|

A row with drafts is sampled at every one of them, each time as if the drafts before it were the
answer so far.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import count, repeat

from thirdeye.server.engine.interface.history import Sample
from thirdeye.server.engine.sampling.logits_processors import is_processed
from thirdeye.server.engine.scheduling.speculation.speculator import histories
from thirdeye.server.engine.scheduling.step_plan import PlanRow


@dataclass(frozen=True, slots=True)
class LogitSpan:
    """Where a plan row's logits lie: its scores, then its samples, either may be none."""

    row: PlanRow
    scores: range  # the logits that score the prompt's tokens
    samples: range  # those that the next token and, after each draft, one more come from

    def accepted(self, chosen: Seq[int], unusable: set[int]) -> range:
        """The samples that count: the first, and each one whose draft was the sample before it.

        It ends before a broken one: then the next step begins there, and it is that step's error.
        """
        samples = self.samples
        for num_right, (i, draft) in enumerate(
            zip(samples, self.row.draft_token_ids, strict=False)
        ):
            if chosen[i] != draft or i + 1 in unusable:
                return samples[: num_right + 1]
        return samples


def make_spans(rows: Seq[PlanRow]) -> list[LogitSpan]:
    """The logits of a step, cut by plan row."""
    spans: list[LogitSpan] = []
    start = 0
    for row in rows:
        middle = start + row.score_end - row.score_start
        stop = middle + row.num_samples
        spans.append(LogitSpan(row, range(start, middle), range(middle, stop)))
        start = stop
    return spans


def samples_of(spans: Iterable[LogitSpan]) -> Iterator[Sample]:
    """All tokens to choose, in the order of their logits."""
    for span in spans:
        sequence = span.row.sequence
        has_say = sequence.request.is_constrained or is_processed(sequence)
        behind = histories(span.row) if has_say else repeat(sequence)  # nobody asks for the drafts
        for row, position, history in zip(span.samples, count(span.row.real_end), behind):
            yield Sample(row, position, history)
