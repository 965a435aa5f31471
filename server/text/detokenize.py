"""Token ids back to the text a caller sees."""

from collections.abc import Iterable

from thirdeye.server.text.tokenizer import TokenizerLike


def visible_bytes(token_id: int, tokenizer: TokenizerLike, skip_special: bool) -> bytes | None:
    """A token's bytes, or None for a special token that is to be hidden."""
    if skip_special and token_id in tokenizer.special_tokens.values():
        return None
    return tokenizer.token_bytes(token_id)


def text_of(token_ids: Iterable[int], tokenizer: TokenizerLike, skip_special: bool = False) -> str:
    """The tokens' text; bytes that are no UTF-8 become U+FFFD."""
    pieces = (visible_bytes(token_id, tokenizer, skip_special) for token_id in token_ids)
    return b"".join(piece or b"" for piece in pieces).decode("utf-8", "replace")
