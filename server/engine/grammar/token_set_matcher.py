"""Answers made of some tokens and no others, end-of-sequence being one of them or not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thirdeye.server.engine.interface.grammar_protocol import REFUSED, GrammarError


class TokenSetMatcher:
    """Everywhere the same; see `Matcher`. It never is over: an answer ends with a token that ends
    it, if that is one of them, or with its length."""

    is_over = False
    late = None

    def __init__(self, token_ids: Sequence[int], num_words: int) -> None:
        self._token_ids = frozenset(token_ids)
        self._words = np.zeros(num_words, np.uint32)
        for token_id in self._token_ids & set(range(32 * num_words)):
            self._words[token_id // 32] |= np.uint32(1 << token_id % 32)

    def follow(self, token_ids: Sequence[int]) -> None:
        if not self._token_ids.issuperset(token_ids):
            raise GrammarError(REFUSED)

    def fill(self, mask: NDArray[np.int32]) -> None:
        size = min(len(mask), len(self._words))
        mask[:size] = self._words[:size].view(np.int32)
        mask[size:] = 0
