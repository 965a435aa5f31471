"""How the tokens of a step are shared between the sequences that run.

1. Each running sequence gets one token: an answer never waits for a prompt.
2. What is left is offered to those that are further behind, in order, newcomers last. Each takes
   all it needs if that is there, else half of what is left, while somebody comes after it.
3. What nobody took is offered once more, in order, to those that still need it.

So with a spare of S tokens, the first in order gets all it needs or S / 2 at least, and a prompt of
L tokens that is first is done within 2 L / S + 1 steps. The k-th gets S / 2^k at least, but in a
step in which one before it gets all it needs: so each prompt that it comes behind holds it up for
one step at most, the last of that prompt, and beside those a short prompt behind a long one gets a
quarter of every step. Prompts that are short for a step are computed one after the other, not all
at once and all late. A newcomer is turned away only when nothing is left, in such a step or behind
about log2(S) prompts. And no token is wasted: if anybody still needs one, the budget is spent to
the last.

Pure arithmetic: it knows no block and no queue.
"""

from collections.abc import Iterable

from thirdeye.server.engine.scheduling.sequence import Sequence


class TokenBudget:
    """The tokens of one step. `extra` is what sequences got beyond their first token."""

    def __init__(self, num_tokens: int) -> None:
        self.left = num_tokens
        self.extra: dict[Sequence, int] = {}

    def tokens_of(self, sequence: Sequence) -> int:
        return 1 + self.extra.get(sequence, 0)

    def admit(self, sequence: Sequence, is_last: bool) -> None:
        """A newcomer's first token, and its part of the rest."""
        self.left -= 1
        self.offer(sequence, is_last)

    def offer(self, sequence: Sequence, is_last: bool) -> None:
        """Rule 2. `is_last`: nobody comes after it who might need what it leaves."""
        is_enough = self._missing(sequence) <= self.left
        self._give(sequence, self.left if is_last or is_enough else self.left // 2)

    def offer_again(self, sequences: Iterable[Sequence]) -> None:
        """Rule 3."""
        for sequence in sequences:
            if not self.left:
                return
            self._give(sequence, self.left)

    def _missing(self, sequence: Sequence) -> int:
        return sequence.num_unplanned_tokens - self.tokens_of(sequence)

    def _give(self, sequence: Sequence, limit: int) -> None:
        num_tokens = min(self._missing(sequence), limit)
        if num_tokens > 0:
            self.extra[sequence] = self.extra.get(sequence, 0) + num_tokens
            self.left -= num_tokens
