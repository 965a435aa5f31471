"""Grammars by llguidance, over the vocabulary of the model that is served.

llguidance walks the trie of all tokens with an Earley parser and a lexer of derivatives, and says
which tokens keep the text inside the grammar. Its work for one token is bounded by its limits, of
a caller's own rules by narrow ones (`interface/grammar_limits.py`): a hostile grammar ends in an
error and not in a stalled step. Where the grammar leaves one text only, the mask leaves the one
token that the tokenizer itself would choose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thirdeye.server.engine.grammar.llguidance_c import CTokenizer, CWalk
from thirdeye.server.engine.grammar.thinking_matcher import ThinkingVocabulary
from thirdeye.server.engine.grammar.token_set_matcher import TokenSetMatcher
from thirdeye.server.engine.interface.grammar_limits import limits_of
from thirdeye.server.engine.interface.grammar_protocol import (
    REFUSED,
    TOO_COMPLEX,
    GrammarError,
    Matcher,
    count_equal,
    num_words,
)
from thirdeye.server.engine.interface.token_sets import token_set_of
from thirdeye.server.fair_cache import FairCache

MAX_TEMPLATES = 32  # compiled grammars kept for the next request with the same one
MAX_TEMPLATE_BYTES = 256 * 1024  # of their text together; they may take 300 times as much


@dataclass(frozen=True, slots=True)
class GivenVocabulary:
    """What a compiler was made of."""

    tokens: Sequence[bytes]
    special_token_ids: Sequence[int]
    eos_token_ids: Sequence[int]
    encode: Callable[[str], list[int]]


class LLGuidanceCompiler:
    """Compiles grammars for one vocabulary. One thread uses it."""

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        special_token_ids: Sequence[int],
        eos_token_ids: Sequence[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        """`tokens[i]` is what token i says; `encode` is how the model's makers cut a text."""
        self.given = GivenVocabulary(tokens, special_token_ids, eos_token_ids, encode)
        self.vocabulary = ThinkingVocabulary(tokens, eos_token_ids)
        own_end = len(tokens)  # for models that have no end of their own
        self.num_words = num_words(own_end + 1)
        self._tokenizer = CTokenizer(
            [*tokens, b""],
            special_token_ids=[*special_token_ids, own_end],
            eos_token_ids=sorted(eos_token_ids) or [own_end],
            encode=encode,
        )
        self._templates: FairCache[str, CWalk] = FairCache(
            MAX_TEMPLATES, MAX_TEMPLATE_BYTES, lambda grammar, _: len(grammar)
        )

    def compile(self, grammar: str, tenant: str = "") -> Matcher:
        """A matcher at the grammar's start; what was compiled is remembered for `tenant` alone.
        Raises `GrammarError`."""
        token_ids = token_set_of(grammar)
        if token_ids is not None:
            return TokenSetMatcher(token_ids, self.num_words)
        return self.walk(grammar, tenant)

    def walk(self, grammar: str, tenant: str = "") -> "LLGuidanceMatcher":
        """The matcher of a grammar of texts, which knows what may follow at its start: the first
        look is the dearest, and belongs beside the steps. Raises `GrammarError`."""
        matcher = LLGuidanceMatcher(self._template(grammar, tenant).copy(), self.num_words)
        try:
            matcher.fill(np.empty(self.num_words, np.int32))
        except GrammarError:
            self._templates.drop(tenant, grammar)
            raise
        return matcher

    def _template(self, grammar: str, tenant: str) -> CWalk:
        """The grammar, compiled; kept without what a walk through it finds, and unless it fails."""
        template = self._templates.get(tenant, grammar)
        if template is None:
            template = self._tokenizer.walk(grammar, limits_of(grammar))
            if template.is_error():
                raise GrammarError(TOO_COMPLEX)
            self._templates.put(tenant, grammar, template)
        return template


class LLGuidanceMatcher:
    """One answer's walk; see `Matcher`. Going back is cheap, and going on costs the new tokens."""

    late = None

    def __init__(self, walk: CWalk, num_words: int) -> None:
        """`num_words` is what llguidance writes of a mask, neither more nor less."""
        self._walk = walk
        self.num_words = num_words
        self._token_ids: list[int] = []  # where it is

    @property
    def is_over(self) -> bool:
        return self._walk.is_stopped()

    def follow(self, token_ids: Sequence[int]) -> None:
        here = self._token_ids
        num_kept = count_equal(here, token_ids)
        if num_kept < len(here):
            self._walk.rollback(len(here) - num_kept)
            del here[num_kept:]
        new = list(token_ids[num_kept:])
        num_taken = self._walk.consume(new)
        here += new[:num_taken]
        self._check()
        if num_taken < len(new):
            raise GrammarError(REFUSED)

    def fill(self, mask: NDArray[np.int32]) -> None:
        whole = mask if len(mask) >= self.num_words else np.empty(self.num_words, np.int32)
        assert whole.flags.c_contiguous
        self._walk.mask(whole.ctypes.data, 4 * self.num_words)
        if whole is mask:
            mask[self.num_words :] = 0
        else:
            mask[:] = whole[: len(mask)]
        self._check()

    def _check(self) -> None:
        if self._walk.is_error():
            raise GrammarError(TOO_COMPLEX)
