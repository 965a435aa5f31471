"""What a grammar allows, over a tokenizer whose tokens are single bytes."""

from functools import lru_cache

from llguidance import LLMatcher, LLTokenizer

BYTES = LLTokenizer("byte")


@lru_cache(maxsize=32)
def _compiled(serialized: str) -> LLMatcher:
    """Nobody moves it: to compile takes twenty times as long as to follow a text."""
    matcher = LLMatcher(BYTES, serialized, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def follower(serialized: str) -> LLMatcher:
    """One of the caller's own, at the beginning."""
    return _compiled(serialized).deep_copy()


def accepts(serialized: str, text: str) -> bool:
    """Whether the whole of `text` may be an answer."""
    matcher, raw = follower(serialized), list(text.encode())
    return bool(matcher.try_consume_tokens(raw) == len(raw) and matcher.is_accepting())
