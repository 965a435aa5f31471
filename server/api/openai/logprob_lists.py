"""Logprobs in the two shapes OpenAI has for them: chat's list of objects, completions' four lists.

Both list every sampled token, the one that ended the answer too. A logprob of -inf is written
-9999.0.
"""

import codecs
from collections.abc import Sequence
from functools import partial

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.text.events import TextToken
from thirdeye.server.text.token_logprobs import (
    PrintedToken,
    chosen,
    legacy_top,
    likeliest,
    token_key,
)
from thirdeye.server.text.tokenizer import TokenizerLike

LOWEST = -9999.0

ScoredToken = tuple[int, bytes | None, TokenLogprobs | None]  # id, shown bytes, what it scored


class LikelyToken(Struct):
    token: str
    logprob: float
    bytes: list[Count] | None


class ChosenToken(LikelyToken):
    top_logprobs: list[LikelyToken]


class ChatLogprobs(Struct):
    content: list[ChosenToken]
    refusal: None = None
    reasoning_content: list[ChosenToken] | UnsetType = UNSET  # where it was asked for

    @classmethod
    def joined(cls, parts: Sequence["ChatLogprobs"], with_thoughts: bool) -> "ChatLogprobs":
        whole = cls([token for part in parts for token in part.content])
        if with_thoughts:
            whole.reasoning_content = [
                token for part in parts for token in part.reasoning_content or []
            ]
        return whole


class TextLogprobs(Struct):
    """Four lists with an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[Count]

    @classmethod
    def joined(cls, parts: Sequence["TextLogprobs"]) -> "TextLogprobs":
        return cls(
            tokens=[token for part in parts for token in part.tokens],
            token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
            top_logprobs=[top for part in parts for top in part.top_logprobs],
            text_offset=[offset for part in parts for offset in part.text_offset],
        )


def chat_logprobs(
    tokens: Sequence[TextToken], tokenizer: TokenizerLike, *, as_ids: bool = False
) -> ChatLogprobs:
    """Of tokens that carry logprobs.

    `as_ids`: tokens are called `token_id:123`; their bytes stay what they are.
    """
    return ChatLogprobs([_chat_token(token, tokenizer, as_ids) for token in tokens])


def _chat_token(token: TextToken, tokenizer: TokenizerLike, as_ids: bool) -> ChosenToken:
    assert token.logprobs is not None, "logprobs were asked for"
    top = [
        LikelyToken(*_entry_of(printed, as_ids)) for printed in likeliest(token.logprobs, tokenizer)
    ]
    return ChosenToken(*_entry_of(chosen(token, tokenizer), as_ids), top)


def _entry_of(printed: PrintedToken, as_ids: bool) -> tuple[str, float, list[int] | None]:
    return (
        id_name(printed.token_id) if as_ids else printed.text,
        max(printed.logprob, LOWEST),
        None if printed.raw is None else list(printed.raw),
    )


class CompletionLogprobs:
    """The legacy shape, built piece by piece: `text_offset` counts on from piece to piece."""

    def __init__(self, tokenizer: TokenizerLike, *, as_ids: bool = False) -> None:
        self._name = id_name if as_ids else partial(token_name, tokenizer=tokenizer)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def piece(self, tokens: Sequence[ScoredToken]) -> TextLogprobs:
        """The first token of a prompt has no logprobs."""
        piece = TextLogprobs([], [], [], [])
        for token_id, raw, entry in tokens:
            piece.tokens.append(self._name(token_id))
            piece.token_logprobs.append(None if entry is None else max(entry.logprob, LOWEST))
            piece.top_logprobs.append(None if entry is None else self._top(entry))
            piece.text_offset.append(self._offset)
            self._offset += len(self._decoder.decode(raw or b""))
        return piece

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        top = legacy_top(entry, self._name)
        return {name: max(logprob, LOWEST) for name, logprob in top.items()}


def id_name(token_id: int) -> str:
    """vLLM's name of a token that may have no text of its own."""
    return f"token_id:{token_id}"


def token_name(token_id: int, tokenizer: TokenizerLike) -> str:
    return token_key(tokenizer.token_bytes(token_id))


class RankedToken(Struct):
    logprob: float
    rank: Count
    decoded_token: str


PromptLogprobs = list[dict[str, RankedToken] | None]  # by token id; null for the first token


def prompt_logprobs(
    prompt: Sequence[int], entries: Sequence[TokenLogprobs], tokenizer: TokenizerLike
) -> PromptLogprobs:
    """vLLM's shape."""
    assert len(entries) == len(prompt) - 1, "one entry for each prompt token but the first"
    return [None, *(_prompt_entry(entry, tokenizer) for entry in entries)]


def _prompt_entry(entry: TokenLogprobs, tokenizer: TokenizerLike) -> dict[str, RankedToken]:
    ranked = [(token_id, logprob, rank) for rank, (token_id, logprob) in enumerate(entry.top, 1)]
    ranked.append((entry.token_id, entry.logprob, entry.rank))
    return {
        str(token_id): RankedToken(
            max(logprob, LOWEST), rank, tokenizer.token_bytes(token_id).decode("utf-8", "replace")
        )
        for token_id, logprob, rank in ranked
    }
