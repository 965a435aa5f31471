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
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

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


class _Vocabulary:
    """What llguidance reads of a tokenizer. Special tokens are never text to a grammar."""

    bos_token_id = None

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_token_ids: Sequence[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.tokens = [*tokens, b""]  # and an end for models that have none of their own
        self.eos_token_id = len(tokens)
        self.special_token_ids = [*special_token_ids, self.eos_token_id]
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("text, not bytes")  # llguidance asks once which of the two we take
        return self._encode(text)


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
        vocabulary = _Vocabulary(tokens, special_token_ids, encode)
        ends = sorted(eos_token_ids) or [vocabulary.eos_token_id]
        self.num_words = num_words(len(vocabulary.tokens))
        self._tokenizer = LLTokenizer(TokenizerWrapper(vocabulary), eos_token=ends)
        self._templates: FairCache[str, LLMatcher] = FairCache(
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
        matcher = LLGuidanceMatcher(self._template(grammar, tenant).deep_copy(), self.num_words)
        try:
            matcher.fill(np.empty(self.num_words, np.int32))
        except GrammarError:
            self._templates.drop(tenant, grammar)
            raise
        return matcher

    def _template(self, grammar: str, tenant: str) -> LLMatcher:
        """The grammar, compiled; kept without what a walk through it finds, and unless it fails."""
        template = self._templates.get(tenant, grammar)
        if template is None:
            template = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits_of(grammar))
            if template.is_error():
                raise GrammarError(TOO_COMPLEX)
            self._templates.put(tenant, grammar, template)
        return template


class LLGuidanceMatcher:
    """One answer's walk; see `Matcher`. Going back is cheap, and going on costs the new tokens."""

    late = None

    def __init__(self, matcher: LLMatcher, num_words: int) -> None:
        """`num_words` is what llguidance writes of a mask, neither more nor less."""
        self._matcher = matcher
        self.num_words = num_words
        self._token_ids: list[int] = []  # where it is

    @property
    def is_over(self) -> bool:
        return self._matcher.is_stopped()

    def follow(self, token_ids: Sequence[int]) -> None:
        here = self._token_ids
        num_kept = count_equal(here, token_ids)
        if num_kept < len(here):
            self._matcher.rollback(len(here) - num_kept)
            del here[num_kept:]
        new = list(token_ids[num_kept:])
        num_taken = self._matcher.try_consume_tokens(new)
        here += new[:num_taken]
        self._check()
        if num_taken < len(new):
            raise GrammarError(REFUSED)

    def fill(self, mask: NDArray[np.int32]) -> None:
        if len(mask) < self.num_words:
            whole = np.frombuffer(self._matcher.compute_bitmask(), np.int32)
            mask[:] = whole[: len(mask)]
        else:
            assert mask.flags.c_contiguous
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, 4 * self.num_words)
            mask[self.num_words :] = 0
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(TOO_COMPLEX)
