"""Answers whose next mask another process is asked for: they sit out the steps until it is here.

    a token is taken in -> ask -> sits out, no row -> arrived -> a row again, or its end

What a step computes is the same in any batch, so an answer does not show which steps it sat out.
That the grammar is over is known with the mask, so the end by length is held back until then: an
answer that is whole says so, also where its last token is the last allowed.
"""

from collections.abc import Iterator
from contextlib import suppress

from thirdeye.server.engine.interface.grammar_protocol import GrammarError, LatePlace
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus


class LateMasks:
    def __init__(self) -> None:
        self._followed: dict[Sequence, LatePlace] = {}  # all whose masks are asked for
        self._asked: dict[Sequence, FinishReason | None] = {}  # how it ends, unless it is over

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def num_waiting(self) -> int:
        """Of those, how many do not run: they were preempted, or have not begun."""
        return sum(s.status is SequenceStatus.WAITING for s in self._asked)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._asked

    def watch(self, sequence: Sequence) -> None:
        """It has got its matcher, which may be looking for its first place."""
        late = sequence.matcher.late if sequence.matcher is not None else None
        if late is not None:
            self._followed[sequence] = late
            self._asked[sequence] = None

    def follows(self, sequence: Sequence) -> bool:
        return sequence in self._followed

    def ask(self, sequence: Sequence, reason: FinishReason | None) -> None:
        """A token has come; `reason`: that it ends the answer by its length."""
        assert sequence.matcher is not None
        with suppress(GrammarError):  # the step that asks for the mask meets it again, and says so
            sequence.matcher.follow(sequence.token_ids[sequence.num_prompt_tokens :])
        self._asked[sequence] = reason

    def arrived(self) -> Iterator[tuple[Sequence, FinishReason | None]]:
        """Those whose mask is here now, and how they end, in the order in which they were asked."""
        here = [sequence for sequence in self._asked if self._followed[sequence].is_here()]
        for sequence in here:
            reason = self._asked.pop(sequence)
            assert sequence.matcher is not None
            has_grown = sequence.num_generated_tokens > len(sequence.request.answer_token_ids)
            is_over = has_grown and sequence.matcher.is_over
            yield sequence, FinishReason.STOP if is_over else reason

    def leave(self, sequence: Sequence) -> None:
        self._followed.pop(sequence, None)
        self._asked.pop(sequence, None)

    def due(self, sequences: list[Sequence]) -> list[Sequence]:
        """Those that can have a row now. A token in flight is not known yet, so no mask is either:
        such a sequence is never a step ahead."""
        if not self._followed:
            return sequences
        return [s for s in sequences if s not in self._followed or self._has_mask(s)]

    def _has_mask(self, sequence: Sequence) -> bool:
        has_pending = sequence.num_launched_tokens >= len(sequence.token_ids)
        return sequence not in self._asked and not has_pending

    def descriptors(self) -> list[int]:
        """To be waited for, where there is nothing else to do."""
        return [self._followed[sequence].fileno() for sequence in self._asked]
