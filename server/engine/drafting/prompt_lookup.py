"""Guessing a sequence's next tokens from its own text: prompt lookup.

Much of an answer is copied: code that is edited, a list that is written out, a sentence quoted. So
the last few tokens often stand somewhere earlier, and what followed them there is a good guess for
what follows here (Saxena 2023, "Prompt Lookup Decoding"; n-gram speculation in vLLM).

The lookup shadows the text: it always has a place to copy from, if there is one, and sees whether
each token that comes is the one it would have guessed. So it knows how good its guesses are without
paying for them, and says nothing until they have been good for a while: in text that copies nothing
it costs a few dictionary look-ups a token, and as soon as copying begins, it knows that as well.

Pure Python over token ids; an n-gram is looked up and noted once, when its last token comes.
"""

import math
import sys
from collections.abc import Sequence

MAX_NGRAM, MIN_NGRAM = 4, 2  # tokens that have to agree; the longest that does, counts
SURE_MATCH = 6  # tokens copied in a row that, with a good rate, make it sure
FIRST_RATE, MIN_RATE, SURE_RATE = 0.3, 0.2, 0.9
WEIGHT = 1 / 8  # of the newest guess in the rate
ROW_COST = 0.06  # what one more token adds to the time of a small step, measured on CPUs


class PromptLookup:
    """Copies from where the last tokens stood before. O(1) for each token of the text.

    token_ids   ... a b c d e f ...... a b c ?      matched = 3, the guess is d, then e, then f
                          ^ source
    """

    __slots__ = ("_ends", "_matched", "_num_read", "_rate", "_source")

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram -> the place after its latest
        self._num_read = 0
        self._source: int | None = None  # the place in the text that holds the guess
        self._matched = 0  # tokens before `source` that equal the latest ones; at most as counted
        self._rate = FIRST_RATE  # how many of the latest guesses were right

    def propose(
        self, token_ids: Sequence[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        """See `Drafter`. It is sure after a long copy without a mistake."""
        for place in range(self._num_read, len(token_ids)):
            self._read(token_ids, place, is_guessed=place >= num_prompt_tokens)
        self._num_read = len(token_ids)
        if self._source is None or self._rate < MIN_RATE:
            return []
        is_sure = self._matched >= SURE_MATCH and self._rate >= SURE_RATE
        num_tokens = limit if is_sure else min(few, num_worth_it(self._rate))
        return copy_from(token_ids, self._source, num_tokens)

    def _read(self, token_ids: Sequence[int], place: int, is_guessed: bool) -> None:
        """Take in the token at `place`: judge the guess for it, make the next one, note it."""
        source = self._source
        if source is not None:
            is_right = token_ids[source] == token_ids[place]
            self._source, self._matched = (source + 1, self._matched + 1) if is_right else (None, 0)
            if is_guessed:
                self._rate += WEIGHT * (is_right - self._rate)
        grams = [
            tuple(token_ids[place + 1 - n : place + 1])
            for n in range(min(MAX_NGRAM, place + 1), MIN_NGRAM - 1, -1)
        ]
        if self._source is None:
            self._find(grams)
        self._ends.update(dict.fromkeys(grams, place + 1))

    def _find(self, grams: list[tuple[int, ...]]) -> None:
        """The latest place that the longest of `grams` ended at, if any of them was there."""
        found = next((gram for gram in grams if gram in self._ends), ())
        self._source, self._matched = self._ends.get(found), len(found)


def num_worth_it(rate: float, cost: float = ROW_COST) -> int:
    """The i-th guess in a row counts with chance rate^i, and then saves a step: it is worth what it
    costs, in steps, as long as that is more."""
    if cost >= rate:
        return 0
    return int(math.log(cost) / math.log(rate)) if rate < 1 else sys.maxsize


def copy_from(token_ids: Sequence[int], source: int, num_tokens: int) -> list[int]:
    """The `num_tokens` tokens from `source` on; what is copied goes on beyond the end, so that a
    text that repeats itself is guessed to do so again."""
    copied = list(token_ids[source : source + num_tokens])
    while len(copied) < num_tokens:
        copied.append(copied[len(copied) - (len(token_ids) - source)])
    return copied
