"""Text to token ids and back, as the checkpoint's makers did it.

Two promises beyond speed. `encode` never turns text into a special token, whatever the text says.
And nothing is dropped: text that has no tokens (a lone surrogate, or a byte this vocabulary lacks,
where other implementations lose the character in silence) is a ValueError that names it. What the
model's own normalizer changes is changed: NFC, or a space in front of the first word.

Two encoders do the work: tiktoken where it is exact, the `tokenizers` package for the rest.
"""

import hashlib
import sys
from copy import copy

from thirdeye.weights.tokenizers.added_tokens import AddedToken, AddedTokenFinder
from thirdeye.weights.tokenizers.chains import unranked_pipeline
from thirdeye.weights.tokenizers.pipeline import Pipeline, PipelineEncoder
from thirdeye.weights.tokenizers.tiktoken_encoder import TiktokenEncoder
from thirdeye.weights.tokenizers.vocabulary import NoRanks, Vocabulary


class Tokenizer:
    """Immutable, and safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises ValueError if the vocabulary contradicts itself."""
        _check_ids(vocabulary)
        self.vocab_size = vocabulary.vocab_size
        self.special_tokens = dict(vocabulary.special_tokens)
        self.bos_token_id = vocabulary.bos_token_id
        self.eos_token_ids = vocabulary.eos_token_ids
        self.prefix_ids = vocabulary.prefix_ids
        self.suffix_ids = vocabulary.suffix_ids
        self.added_tokens = self.special_tokens | {
            token.literal: token.token_id for token in vocabulary.text_tokens
        }
        self.eos_token = self._literal(vocabulary.eos_token_id)
        self.named_tokens = vocabulary.named_tokens
        self.fingerprint = _fingerprint(vocabulary)
        self._encoder = _encoder(vocabulary)
        self._bytes = _token_table(vocabulary)
        self.max_token_bytes = _max_token_bytes(vocabulary, self._bytes)
        self.strips = dict(vocabulary.strips)
        self._special = AddedTokenFinder(
            AddedToken(literal, token_id, *self.strips.get(literal, (False, False)))
            for literal, token_id in self.special_tokens.items()
        )

    def ending_with(self, literal: str) -> "Tokenizer":
        """A copy for which this added token ends a generation too."""
        changed = copy(self)
        changed.eos_token_ids = self.eos_token_ids | {self.added_tokens[literal]}
        known = f"{self.fingerprint} ends with {literal}"
        changed.fingerprint = hashlib.sha256(known.encode()).hexdigest()
        return changed

    def _literal(self, token_id: int | None) -> str | None:
        return next((text for text, i in self.added_tokens.items() if i == token_id), None)

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:
        """Text to ids; special-token literals in it are text. Raises ValueError if it cannot.

        `follows_special`: a special token stands before it, so it is not the start of a text, where
        some models put a space.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds half a surrogate pair at character {error.start}; "
                "it is not valid Unicode."
            ) from None
        return self._encoder.encode(text, follows_special=follows_special)

    def encode_with_special(self, text: str) -> list[int]:
        """The same, but special-token literals become their ids; where they overlap, the longest
        wins."""
        ids: list[int] = []
        for part in self._special.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self.encode(part, follows_special=bool(ids))
        return ids

    def merge_rank(self, token_id: int) -> int | None:
        """When byte-pair encoding made this token, among all; None where that is not known."""
        return self._encoder.merge_rank(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token (of a special token: its literal; of an unused id: b"").

        A token that begins a word has its space, also the first of an answer.
        """
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"token ids are between 0 and {self.vocab_size - 1}, got {token_id}.")
        return self._bytes[token_id]


def _encoder(vocabulary: Vocabulary) -> TiktokenEncoder | PipelineEncoder:
    rules = vocabulary.pre_tokenizer
    if isinstance(rules, Pipeline):
        return PipelineEncoder(rules, vocabulary.special_tokens, vocabulary.text_tokens)
    try:
        return TiktokenEncoder(vocabulary, rules)
    except NoRanks:
        return PipelineEncoder(
            unranked_pipeline(vocabulary, rules),
            vocabulary.special_tokens,
            vocabulary.text_tokens,
        )


def _max_token_bytes(vocabulary: Vocabulary, table: list[bytes]) -> int:
    """Where text may lose bytes on its way to tokens, no number of them is too many for one."""
    rules = vocabulary.pre_tokenizer
    if isinstance(rules, Pipeline) and rules.shrinks:
        return sys.maxsize
    return max(len(text) for text in table)


def _check_ids(vocabulary: Vocabulary) -> None:
    """Every id is inside the model's vocabulary, and none has two meanings."""
    eos, bos = vocabulary.eos_token_ids, vocabulary.bos_token_id
    used = [
        *vocabulary.tokens,
        *vocabulary.unreachable,
        *vocabulary.special_tokens.values(),
        *(token.token_id for token in vocabulary.text_tokens),
        *eos,
        *vocabulary.prefix_ids,
        *vocabulary.suffix_ids,
        *([] if bos is None else [bos]),
    ]
    if used and not (min(used) >= 0 and max(used) < vocabulary.vocab_size):
        raise ValueError(
            f"token ids must be between 0 and {vocabulary.vocab_size - 1}, got {min(used)} to "
            f"{max(used)}."
        )
    special = vocabulary.special_tokens
    added = {
        *special.items(),
        *((token.literal, token.token_id) for token in vocabulary.text_tokens),
    }
    if len({token_id for _, token_id in added}) != len(added):
        raise ValueError("two added tokens have the same id.")
    if not vocabulary.tokens.keys().isdisjoint(special.values()):
        raise ValueError("an id is both an ordinary and a special token.")
    if "" in dict(added) or b"" in vocabulary.tokens.values():
        raise ValueError("a token is empty.")


def _token_table(vocabulary: Vocabulary) -> list[bytes]:
    table = [b""] * vocabulary.vocab_size
    for token_id, text in vocabulary.tokens.items():
        table[token_id] = text
    for literal, token_id in vocabulary.special_tokens.items():
        table[token_id] = literal.encode()
    for token in vocabulary.text_tokens:
        if token.token_id not in vocabulary.tokens:
            table[token.token_id] = token.literal.encode()
    for token_id, text in vocabulary.unreachable.items():
        table[token_id] = text
    return table


def _fingerprint(vocabulary: Vocabulary) -> str:
    """SHA-256 over what ids mean and how text becomes ids; two tokenizers with one fingerprint
    agree."""
    rules = vocabulary.pre_tokenizer
    digest = hashlib.sha256(rules.rules() if isinstance(rules, Pipeline) else rules.regex.encode())
    tokens = sorted(vocabulary.tokens.items())
    digest.update(b"".join([b"%d %d %b" % (i, len(text), text) for i, text in tokens]))
    for literal, token_id in sorted(vocabulary.special_tokens.items()):
        raw = literal.encode()
        digest.update(b"special %d %d " % (token_id, len(raw)) + raw)
    for token in sorted(vocabulary.text_tokens, key=lambda token: token.token_id):
        digest.update(b"added %s " % repr(token).encode())
    for literal, strip in sorted(vocabulary.strips.items()):
        digest.update(b"strips %s " % repr((literal, strip)).encode())
    merges = vocabulary.merges
    digest.update(b"".join([b"merge %d %b%b" % (len(left), left, right) for left, right in merges]))
    return digest.hexdigest()
