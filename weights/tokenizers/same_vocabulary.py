"""Whether two models mean the same by a token id."""

from thirdeye.weights.tokenizers.tokenizer import Tokenizer

PADDING = 0.01  # of a vocabulary: ids at its end that one file lists and another does not


def difference(one: Tokenizer, other: Tokenizer) -> str:
    """What is different, in words; empty if nothing is. Vocabularies may be padded."""
    fewer, more = sorted((one.vocab_size, other.vocab_size))
    if fewer < (1 - PADDING) * more:
        return f"it has {other.vocab_size:,} tokens, not {one.vocab_size:,}"
    for i in range(fewer):
        a, b = one.token_bytes(i), other.token_bytes(i)
        if a != b:
            return f"token {i} is {shown(b)} there, not {shown(a)}"
    return ""


def shown(token: bytes) -> str:
    return repr(token.decode("utf-8", "backslashreplace"))
