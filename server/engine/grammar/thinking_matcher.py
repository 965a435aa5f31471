"""An answer that thinks first: its grammar, and the tokens it must have, begin behind the thinking.

    undecided   the answer may begin by thinking, or at once
    thinking    anything, until its closing text, or the token that begins a call; once its budget
                is spent, the closing text token by token
    answer      what the request's own grammar allows, from its start on

Like any `Matcher` it is a function of the answer's tokens and of nothing else. The closing text is
looked for in the tokens' bytes, since a model may spell it in other tokens than its tokenizer.
"""

import codecs
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from thirdeye.server.engine.interface.grammar_protocol import (
    REFUSED,
    GrammarError,
    LatePlace,
    Matcher,
    count_equal,
    num_words,
)
from thirdeye.server.engine.interface.types import Request, Thinking

MAX_CHARACTER_BYTES = 4
MAX_CHARACTER_TOKENS = 3  # a character cut by the budget gets so many more to be completed


class ThinkingVocabulary:
    """What the tokens say, and which of them end an answer."""

    def __init__(self, tokens: Sequence[bytes], eos_token_ids: Sequence[int]) -> None:
        self.tokens = tokens
        self.eos_token_ids = list(eos_token_ids)
        self.overrunning = lru_cache(16)(self._overrunning)

    def matcher(self, request: Request, inner: Matcher | None) -> Matcher:
        """`inner` walks the request's grammar, if it has one."""
        assert request.thinking is not None
        ends = self.eos_token_ids + request.sampling.stop_token_ids
        return ThinkingMatcher(request.thinking, inner, self, ends)

    def _overrunning(self, close: bytes) -> list[list[int]]:
        """For each number of closing bytes that are there: the tokens that complete them and go on
        with text. A grammar cannot begin in the middle of a token."""
        ends_within = [(i, t) for i, t in enumerate(self.tokens) if close[-1:] in t[:-1]]
        return [
            [i for i, t in ends_within if (close[:k] + t).partition(close)[2].strip()]
            for k in range(len(close))
        ]


class ThinkingMatcher:
    """One answer's walk; see `Matcher`."""

    def __init__(
        self,
        thinking: Thinking,
        inner: Matcher | None,
        vocabulary: ThinkingVocabulary,
        end_ids: Sequence[int],
    ) -> None:
        """`end_ids` may not come before the answer has `thinking.min_tokens`."""
        self._thinking = thinking
        self._inner = inner
        self._vocabulary = vocabulary
        self._end_ids = [i for i in end_ids if i < len(vocabulary.tokens)]
        self._close = b"".join(vocabulary.tokens[i] for i in thinking.close_ids)
        self._call_id = thinking.call_id
        self.late: LatePlace | None = inner.late if inner is not None else None
        self._token_ids: list[int] = []
        self._answer_at: int | None = None  # how many tokens the thinking took, once it is over
        self._known_at = 0  # how many tokens it took to know that
        self._spent_at: int | None = None  # how many there were as its budget was spent

    @property
    def is_over(self) -> bool:
        return self._answer_at is not None and self._inner is not None and self._inner.is_over

    def follow(self, token_ids: Sequence[int]) -> None:
        num_kept = count_equal(self._token_ids, token_ids)
        del self._token_ids[num_kept:]
        if self._known_at > num_kept:
            self._answer_at, self._known_at = None, 0
        if self._spent_at is not None and self._spent_at > num_kept:
            self._spent_at = None
        self._look()
        for token_id in token_ids[num_kept:]:
            if self._closing is not None and token_id != self._closing:
                raise GrammarError(REFUSED)
            self._token_ids.append(token_id)
            self._look()
        if self._inner is None:
            return
        if self._answer_at is not None:
            self._inner.follow(self._token_ids[self._answer_at :])
        elif self._is_undecided:
            with suppress(GrammarError):  # met again where it is asked what may follow
                self._inner.follow(self._token_ids)

    def fill(self, mask: NDArray[np.int32]) -> None:
        if self._answer_at is not None:
            self._fill_answer(mask, len(self._token_ids) - self._answer_at)
        elif self._is_undecided:
            self._fill_undecided(mask)
        else:
            self._fill_thinking(mask)

    def _look(self) -> None:
        """What the newest token changes."""
        if self._answer_at is not None or self._is_undecided:
            return
        num_open, now = len(self._thinking.open_ids), len(self._token_ids)
        if self._token_ids[:num_open] != self._thinking.open_ids:
            self._answer_at, self._known_at = 0, now
            return
        if self._close in self._recent_bytes():
            self._answer_at = self._known_at = now
            return
        if self._spent_at is None and now > num_open and self._token_ids[-1] == self._call_id:
            self._answer_at, self._known_at = now - 1, now
            return
        budget = self._thinking.max_tokens
        if budget is not None and self._spent_at is None and now - num_open >= budget:
            is_late = now - num_open >= budget + MAX_CHARACTER_TOKENS
            if is_late or _is_whole(self._recent_bytes()):
                self._spent_at = now

    @property
    def _is_undecided(self) -> bool:
        open_ids, num_tokens = self._thinking.open_ids, len(self._token_ids)
        return num_tokens < len(open_ids) and self._token_ids == open_ids[:num_tokens]

    def _recent_bytes(self) -> bytes:
        """The thinking's last bytes: enough for the closing text, or a character, to be complete
        in them with the newest token."""
        tokens, thought = self._vocabulary.tokens, self._token_ids[len(self._thinking.open_ids) :]
        if not thought:
            return b""
        last, before = tokens[thought[-1]], b""
        for token_id in reversed(thought[:-1]):
            if len(before) >= max(len(self._close), MAX_CHARACTER_BYTES):
                break
            before = tokens[token_id] + before
        return before + last

    @property
    def _closing(self) -> int | None:
        """The one token that may come next, where the budget is spent."""
        if self._spent_at is None or self._answer_at is not None:
            return None
        return self._thinking.close_ids[len(self._token_ids) - self._spent_at]

    def _fill_thinking(self, mask: NDArray[np.int32]) -> None:
        closing = self._closing
        if closing is not None:
            mask[:] = 0
            _allow(mask, closing)
            return
        self._fill_all(mask)
        if self._inner is not None or self._thinking.min_tokens:
            _forbid(mask, self._end_ids)
        if self._inner is not None:
            num_there = _overlap(self._recent_bytes(), self._close)
            _forbid(mask, self._vocabulary.overrunning(self._close)[num_there])

    def _fill_undecided(self, mask: NDArray[np.int32]) -> None:
        """What the answer may begin with, or what the thinking begins with."""
        try:
            if self._inner is not None:
                self._inner.follow(self._token_ids)
            self._fill_answer(mask, len(self._token_ids))
        except GrammarError:
            mask[:] = 0
        _allow(mask, self._thinking.open_ids[len(self._token_ids)])

    def _fill_answer(self, mask: NDArray[np.int32], num_tokens: int) -> None:
        if self._inner is None:
            self._fill_all(mask)
        else:
            self._inner.fill(mask)
        if num_tokens < self._thinking.min_tokens:
            before = mask.copy()
            _forbid(mask, self._end_ids)
            if not mask.any():
                mask[:] = before  # the grammar leaves nothing else, and it goes first

    def _fill_all(self, mask: NDArray[np.int32]) -> None:
        num_tokens = len(self._vocabulary.tokens)
        mask[:] = 0
        mask[: num_words(num_tokens)] = -1
        if num_tokens % 32:
            mask[num_words(num_tokens) - 1] = np.uint32((1 << num_tokens % 32) - 1).view(np.int32)


def _allow(mask: NDArray[np.int32], token_id: int) -> None:
    mask.view(np.uint32)[token_id // 32] |= np.uint32(1 << token_id % 32)


def _forbid(mask: NDArray[np.int32], token_ids: Sequence[int]) -> None:
    words = mask.view(np.uint32)
    for token_id in token_ids:
        words[token_id // 32] &= np.uint32(~(1 << token_id % 32) & 0xFFFFFFFF)


def _is_whole(raw: bytes) -> bool:
    """Whether bytes end with the end of a character, or with what can become none."""
    return codecs.utf_8_decode(raw, "replace")[1] == len(raw)


def _overlap(text: bytes, close: bytes) -> int:
    """How many of `close`'s first bytes stand at the end of `text`."""
    return max(k for k in range(len(close)) if text.endswith(close[:k]))
