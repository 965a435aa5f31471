"""Text to token ids and back, as the checkpoint's makers did it: tiktoken over their vocabulary.

Two promises beyond speed. `encode` never turns text into a special token, whatever the text says.
And nothing is dropped: text that has no tokens (a lone surrogate, or a byte this vocabulary lacks,
where other implementations lose the character in silence) is a ValueError that names it.
"""

import hashlib
import re
import unicodedata

import tiktoken

from thirdeye.weights.tokenizers.added_tokens import AddedToken, AddedTokenFinder
from thirdeye.weights.tokenizers.vocabulary import Vocabulary, merge_ranks

# The look-ahead after white space backtracks; in runs of about a million characters tiktoken's
# regex engine runs out of stack and panics.
MAX_WHITE_SPACE_RUN = 100_000
WHITE_SPACE = re.compile(r"\s{2,}")


class Tokenizer:
    """Immutable, and safe to share between threads; long texts release the GIL."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises ValueError if the vocabulary contradicts itself."""
        _check_ids(vocabulary)
        ranks = merge_ranks(vocabulary)
        ids = {text: token_id for token_id, text in vocabulary.tokens.items()}
        self.vocab_size = vocabulary.vocab_size
        self.special_tokens = dict(vocabulary.special_tokens)
        self.bos_token_id = vocabulary.bos_token_id
        self.eos_token_ids = vocabulary.eos_token_ids
        self.add_bos = vocabulary.add_bos
        self.fingerprint = _fingerprint(vocabulary)
        self._nfc = vocabulary.pre_tokenizer.nfc
        self._ids_by_rank = _ids_by_rank(ranks, ids)
        self._encoding = tiktoken.Encoding(
            vocabulary.pre_tokenizer.name,
            pat_str=vocabulary.pre_tokenizer.regex,
            mergeable_ranks=ranks,
            special_tokens={},
        )
        self._bytes = _token_table(vocabulary)
        self.max_token_bytes = max(len(text) for text in self._bytes)
        self._lacking = _bytes_without_token(ranks)
        self._in_raw_text = AddedTokenFinder(
            token for token in vocabulary.text_tokens if not token.normalized
        )
        self._in_normal_text = AddedTokenFinder(
            token for token in vocabulary.text_tokens if token.normalized
        )
        self.strips = dict(vocabulary.strips)
        self._special = AddedTokenFinder(
            AddedToken(literal, token_id, *self.strips.get(literal, (False, False)))
            for literal, token_id in self.special_tokens.items()
        )

    def encode(self, text: str) -> list[int]:
        """Text to ids; special-token literals in it are text. Raises ValueError if it cannot."""
        ids: list[int] = []
        for part in self._in_raw_text.split(text):
            ids += [part] if isinstance(part, int) else self._encode_raw(part)
        return ids

    def _encode_raw(self, text: str) -> list[int]:
        if self._nfc:
            text = unicodedata.normalize("NFC", text)
        ids: list[int] = []
        for part in self._in_normal_text.split(text):
            ids += [part] if isinstance(part, int) else self._merge(part)
        return ids

    def _merge(self, text: str) -> list[int]:
        self._check_encodable(text)
        ranks = self._encoding.encode_ordinary(text)
        if self._ids_by_rank is None:
            return ranks
        return [self._ids_by_rank[rank] for rank in ranks]

    def encode_with_special(self, text: str) -> list[int]:
        """The same, but special-token literals become their ids; where they overlap, the longest
        wins."""
        ids: list[int] = []
        for part in self._special.split(text):
            ids += [part] if isinstance(part, int) else self.encode(part)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token (of a special token: its literal; of an unused id: b"")."""
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"token ids are between 0 and {self.vocab_size - 1}, got {token_id}.")
        return self._bytes[token_id]

    def _check_encodable(self, text: str) -> None:
        """Refuse what tiktoken would change (lone surrogates become U+FFFD) or panic at."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds half a surrogate pair at character {error.start}; "
                "it is not valid Unicode."
            ) from None
        if self._lacking is not None and (found := self._lacking.search(raw)):
            character = text[len(raw[: found.start()].decode(errors="ignore"))]
            raise ValueError(
                f"the text holds U+{ord(character):04X}, "
                "for which this model's vocabulary has no token."
            )
        if _longest_white_space(text) > MAX_WHITE_SPACE_RUN:
            raise ValueError(
                f"the text holds more than {MAX_WHITE_SPACE_RUN:,} white-space characters in a row."
            )


def _longest_white_space(text: str) -> int:
    """Length of the longest run; 0 without a look at texts too short to hold a long one."""
    if len(text) <= MAX_WHITE_SPACE_RUN:
        return 0
    return max((run.end() - run.start() for run in WHITE_SPACE.finditer(text)), default=0)


def _check_ids(vocabulary: Vocabulary) -> None:
    """Every id is inside the model's vocabulary, and none has two meanings."""
    eos, bos = vocabulary.eos_token_ids, vocabulary.bos_token_id
    used = [
        *vocabulary.tokens,
        *vocabulary.special_tokens.values(),
        *(token.token_id for token in vocabulary.text_tokens),
        *eos,
        *([] if bos is None else [bos]),
    ]
    if used and not (min(used) >= 0 and max(used) < vocabulary.vocab_size):
        raise ValueError(
            f"token ids must be between 0 and {vocabulary.vocab_size - 1}, got {min(used)} to "
            f"{max(used)}."
        )
    special = dict(vocabulary.special_tokens)
    special |= {token.literal: token.token_id for token in vocabulary.text_tokens}
    if len(set(special.values())) != len(special):
        raise ValueError("two added tokens have the same id.")
    if not vocabulary.tokens.keys().isdisjoint(special.values()):
        raise ValueError("an id is both an ordinary and an added token.")
    if "" in special or b"" in vocabulary.tokens.values():
        raise ValueError("a token is empty.")
    if vocabulary.add_bos and bos is None:
        raise ValueError("prompts are to start with a BOS token, but there is none.")


def _ids_by_rank(ranks: dict[bytes, int], ids: dict[bytes, int]) -> dict[int, int] | None:
    """rank -> id, or None where they are the same."""
    if all(ids[text] == rank for text, rank in ranks.items()):
        return None
    return {rank: ids[text] for text, rank in ranks.items()}


def _token_table(vocabulary: Vocabulary) -> list[bytes]:
    table = [b""] * vocabulary.vocab_size
    for token_id, text in vocabulary.tokens.items():
        table[token_id] = text
    for literal, token_id in vocabulary.special_tokens.items():
        table[token_id] = literal.encode()
    for token in vocabulary.text_tokens:
        table[token.token_id] = token.literal.encode()
    return table


def _bytes_without_token(ranks: dict[bytes, int]) -> re.Pattern[bytes] | None:
    lacking = [bytes([byte]) for byte in range(256) if bytes([byte]) not in ranks]
    return re.compile(b"|".join(map(re.escape, lacking))) if lacking else None


def _fingerprint(vocabulary: Vocabulary) -> str:
    """SHA-256 over what ids mean and how text becomes ids; two tokenizers with one fingerprint
    agree."""
    digest = hashlib.sha256(vocabulary.pre_tokenizer.regex.encode())
    for token_id, text in sorted(vocabulary.tokens.items()):
        digest.update(b"%d %d " % (token_id, len(text)) + text)
    for literal, token_id in sorted(vocabulary.special_tokens.items()):
        raw = literal.encode()
        digest.update(b"special %d %d " % (token_id, len(raw)) + raw)
    for token in sorted(vocabulary.text_tokens, key=lambda token: token.token_id):
        digest.update(b"added %s " % repr(token).encode())
    for literal, strip in sorted(vocabulary.strips.items()):
        digest.update(b"strips %s " % repr((literal, strip)).encode())
    for left, right in vocabulary.merges:
        digest.update(b"merge %d " % len(left) + left + right)
    return digest.hexdigest()
