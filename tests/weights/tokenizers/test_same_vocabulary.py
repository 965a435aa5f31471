"""Whether two models mean the same by a token id."""

from thirdeye.weights.tokenizers.pretokenize import GPT2
from thirdeye.weights.tokenizers.same_vocabulary import difference
from thirdeye.weights.tokenizers.tokenizer import Tokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary

BYTES = {i: bytes([i]) for i in range(256)}


def vocabulary(size: int, **changed: bytes) -> Tokenizer:
    tokens = BYTES | {int(name[1:]): token for name, token in changed.items()}
    return Tokenizer(Vocabulary(tokens, [], {}, GPT2, size, None, frozenset()))


def test_padding_is_no_difference() -> None:
    assert not difference(vocabulary(256), vocabulary(258))
    assert not difference(vocabulary(258), vocabulary(256))


def test_another_size_and_another_token_are_named() -> None:
    assert difference(vocabulary(256), vocabulary(300)) == "it has 300 tokens, not 256"
    swapped = vocabulary(256, t65=b"B", t66=b"A")
    assert difference(vocabulary(256), swapped) == "token 65 is 'B' there, not 'A'"
