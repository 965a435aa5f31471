"""Logprobs as the API prints them: token text, exact bytes, the float untouched.

A token need not be whole characters: its text then has U+FFFD, while its bytes are exact, so
joined bytes always give the text. This file knows no JSON: the API shapes the two answers from
`PrintedToken`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.text.events import TextToken
from thirdeye.server.text.tokenizer import TokenizerLike


@dataclass(frozen=True, slots=True)
class PrintedToken:
    """One token beside its logprob. `raw` is None where the token is hidden from the text."""

    text: str
    logprob: float
    raw: bytes | None
    token_id: int


def token_text(raw: bytes) -> str:
    """A token's bytes as text, U+FFFD for what is no whole character."""
    return raw.decode("utf-8", "replace")


def token_key(raw: bytes) -> str:
    """A token's text as a key of the legacy answer: bytes that are no text are spelled out."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def chosen(token: TextToken, tokenizer: TokenizerLike) -> PrintedToken:
    """The sampled token. A hidden one has its literal as text, and no bytes."""
    assert token.logprobs is not None, "logprobs were not asked for"
    text = token_text(tokenizer.token_bytes(token.token_id))
    return PrintedToken(text, token.logprobs.logprob, token.raw, token.token_id)


def likeliest(position: TokenLogprobs, tokenizer: TokenizerLike) -> list[PrintedToken]:
    """The likeliest tokens of one position, likeliest first (chat's `top_logprobs`)."""
    raws = [tokenizer.token_bytes(token_id) for token_id, _ in position.top]
    return [
        PrintedToken(token_text(raw), logprob, raw, token_id)
        for raw, (token_id, logprob) in zip(raws, position.top, strict=True)
    ]


def legacy_top(position: TokenLogprobs, name: Callable[[int], str]) -> dict[str, float]:
    """Completions' `top_logprobs` of one position: the likeliest, and the token that is there.

    `name` gives a token's key. Of two tokens with the same one the larger logprob is kept.
    """
    top: dict[str, float] = {}
    for token_id, logprob in [*position.top, (position.token_id, position.logprob)]:
        key = name(token_id)
        top[key] = max(logprob, top.get(key, logprob))
    return top
