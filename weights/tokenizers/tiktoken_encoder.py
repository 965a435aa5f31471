"""Byte-level BPE through tiktoken, where a rank per token says what the merges say."""

import re
import unicodedata
from dataclasses import replace

import tiktoken

from thirdeye.weights.tokenizers.added_tokens import AddedTokenFinder
from thirdeye.weights.tokenizers.pretokenize import PreTokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary, merge_ranks

# The look-ahead after white space backtracks; in runs of about a million characters tiktoken's
# regex engine runs out of stack and panics.
MAX_WHITE_SPACE_RUN = 100_000
WHITE_SPACE = re.compile(r"\s{2,}")


class TiktokenEncoder:
    """Text to ids, added tokens in it included. Immutable, and safe to share between threads; long
    texts release the GIL."""

    def __init__(self, vocabulary: Vocabulary, pre_tokenizer: PreTokenizer) -> None:
        """Raises ValueError if the vocabulary contradicts itself."""
        ranks = merge_ranks(vocabulary, pre_tokenizer.ignore_merges)
        ids = {text: token_id for token_id, text in vocabulary.tokens.items()}
        self._nfc = pre_tokenizer.nfc
        self._ids_by_rank = _ids_by_rank(ranks, ids)
        self._encoding = tiktoken.Encoding(
            pre_tokenizer.name,
            pat_str=pre_tokenizer.regex,
            mergeable_ranks=ranks,
            special_tokens={},
        )
        self._lacking = _bytes_without_token(ranks)
        tokens = vocabulary.text_tokens
        self._in_raw_text = AddedTokenFinder(token for token in tokens if not token.normalized)
        self._in_normal_text = AddedTokenFinder(
            replace(token, literal=self._normalize(token.literal))
            for token in tokens
            if token.normalized
        )

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:  # noqa: ARG002
        """Raises ValueError for text that has no tokens. No family here adds anything at the start
        of a text: what stands before it does not matter."""
        ids: list[int] = []
        for part in self._in_raw_text.split(text):
            ids += [part] if isinstance(part, int) else self._encode_raw(part)
        return ids

    def merge_rank(self, token_id: int) -> int | None:
        """When this token was made, among all; None if no merge makes it."""
        pairs = (self._ids_by_rank or {}).items()
        rank = next((rank for rank, known in pairs if known == token_id), token_id)
        try:
            self._encoding.decode_single_token_bytes(rank)
        except KeyError:
            return None
        return rank if self._ids_by_rank is None or rank in self._ids_by_rank else None

    def _encode_raw(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._in_normal_text.split(self._normalize(text)):
            ids += [part] if isinstance(part, int) else self._merge(part)
        return ids

    def _normalize(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self._nfc else text

    def _merge(self, text: str) -> list[int]:
        self._check_encodable(text)
        ranks = self._encoding.encode_ordinary(text)
        if self._ids_by_rank is None:
            return ranks
        return [self._ids_by_rank[rank] for rank in ranks]

    def _check_encodable(self, text: str) -> None:
        """Refuse what tiktoken would lose or panic at."""
        raw = text.encode()
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


def _ids_by_rank(ranks: dict[bytes, int], ids: dict[bytes, int]) -> dict[int, int] | None:
    """rank -> id, or None where they are the same."""
    if all(ids[text] == rank for text, rank in ranks.items()):
        return None
    return {rank: ids[text] for text, rank in ranks.items()}


def _bytes_without_token(ranks: dict[bytes, int]) -> re.Pattern[bytes] | None:
    lacking = [bytes([byte]) for byte in range(256) if bytes([byte]) not in ranks]
    return re.compile(b"|".join(map(re.escape, lacking))) if lacking else None
