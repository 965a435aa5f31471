"""What the engine wants of a grammar: one answer's place in it, for any tokens so far.

A place is a function of the answer's tokens and of nothing else, so it can be asked for again after
a preemption, and for guesses that turn out wrong. `server/engine/grammar/llguidance_matcher.py` has
the real ones; this file knows no library and no tensor.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

REFUSED = "The grammar of this request does not allow its own answer."
TOO_COMPLEX = "The grammar of this request is too complex to be followed."


class GrammarError(Exception):
    """The grammar cannot be followed from here. The text is fit for the request's client."""


def num_words(num_tokens: int) -> int:
    """Words of 32 bits that hold one bit for each token."""
    return -(-num_tokens // 32)


def count_equal(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens the two have in common at their start."""
    if right[: len(left)] == left:
        return len(left)
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


class LatePlace(Protocol):
    """A place that another process looks for, while steps go on."""

    def is_here(self) -> bool:
        """Whether it is known. Takes in what has arrived; never waits."""

    def fileno(self) -> int:
        """Readable once there is something to take in."""


class Matcher(Protocol):
    """One answer's walk through its grammar."""

    @property
    def late(self) -> LatePlace | None:
        """None where `follow` comes to a place; else it asks for one, and all the rest means
        something once that is here."""

    def follow(self, token_ids: Sequence[int]) -> None:
        """Go to the place after `token_ids`, which are the whole answer so far.

        Raises `GrammarError` if the grammar refuses one of them, or is too complex to go on.
        """

    def fill(self, mask: NDArray[np.int32]) -> None:
        """Write one bit for each token of the vocabulary, lowest first: may it come next?

        `mask` [num_words] is a dense row of somebody's memory; behind the vocabulary it gets 0, and
        what it has no room for is left out. End-of-sequence may come where the grammar may end.
        Raises `GrammarError` if nothing may; then what the row holds means nothing.
        """

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow: the answer is complete, and only its end is missing."""


CompileGrammar = Callable[[str, str], Matcher]
"""A serialized grammar, and the tenant that asks for it, to a matcher at its start; what is wrong
with it shows as it is used."""
