"""What the engine wants of a grammar: one answer's place in it, for any tokens so far.

A place is a function of the answer's tokens and of nothing else, so it can be asked for again after
a preemption, and for guesses that turn out wrong. `server/engine/guidance.py` has the real ones;
this file knows no library and no tensor.
"""

from collections.abc import Callable, Sequence
from typing import Protocol


class GrammarError(Exception):
    """The grammar cannot be followed from here. The text is fit for the request's client."""


class Matcher(Protocol):
    """One answer's walk through its grammar."""

    def follow(self, token_ids: Sequence[int]) -> None:
        """Go to the place after `token_ids`, which are the whole answer so far.

        Raises `GrammarError` if the grammar refuses one of them, or is too complex to go on.
        """

    def mask(self) -> bytes:
        """One bit for each token of the vocabulary, lowest first: may it come next?

        End-of-sequence may where the grammar may end. Raises `GrammarError` if none may.
        """

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow: the answer is complete, and only its end is missing."""


CompileGrammar = Callable[[str], Matcher]
"""A serialized grammar to a matcher at its start; what is wrong with it shows as it is used."""
