"""A byte-level BPE vocabulary as plain data, and the checks that make it usable as one.

Checkpoints write bytes as printable characters (GPT-2's table below) and merges as pairs of tokens.
tiktoken wants `bytes -> rank` instead and merges whatever pair gives the lowest rank. Both say the
same if a token's rank orders it as its merge does, which `merge_ranks` establishes; where it does
not, the merges go to the second encoder as they are (`chains.unranked_pipeline`).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.merge_order import all_come_out, any_can_be_merged
from thirdeye.weights.tokenizers.pipeline import Pipeline
from thirdeye.weights.tokenizers.pretokenize import PreTokenizer


class NoRanks(ValueError):
    """The merges are sound, but no rank for each token says what they say."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`tokens`: ordinary tokens, id -> bytes. `merges`: pairs of byte strings in order of priority,
    none with a `Pipeline`, which has its own. `unreachable`: tokens that no text becomes.

    `prefix_ids` stand in front of a plain text, `suffix_ids` behind it, where nothing continues it.
    `eos_token_id`: the one of `eos_token_ids` that templates write as `eos_token`.

    `named_tokens`: what templates print by name (`unk_token`); None where no file names any.

    `strips`: which special tokens swallow the white space before them, and behind.
    `vocab_size` is the model's number of logits; ids without text stay unused.
    """

    tokens: Mapping[int, bytes]
    merges: Sequence[tuple[bytes, bytes]]
    special_tokens: Mapping[str, int]
    pre_tokenizer: PreTokenizer | Pipeline
    vocab_size: int
    bos_token_id: int | None
    eos_token_ids: frozenset[int]
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    text_tokens: Sequence[AddedToken] = ()  # added ones that are no special tokens
    strips: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    unreachable: Mapping[int, bytes] = field(default_factory=dict)
    eos_token_id: int | None = None
    named_tokens: Mapping[str, str] | None = None


def byte_characters() -> dict[int, str]:
    """GPT-2's table: each byte's character. Printable Latin-1 stands for itself, the rest for
    U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }


class ByteDecoder:
    """Characters of GPT-2's table back to bytes. Raises ValueError on any other character."""

    def __init__(self) -> None:
        self._table = {ord(character): byte for byte, character in byte_characters().items()}
        # Characters outside the table would pass `translate` unchanged if they are Latin-1: send
        # them away.
        self._table |= {code: 0xFFFF for code in range(256) if code not in self._table}

    def __call__(self, token: str) -> bytes:
        try:
            return token.translate(self._table).encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(
                f"the token {token!r:.60} is not written in byte-level characters."
            ) from None

    def each_of(self, tokens: Sequence[str]) -> list[bytes]:
        """The same of many, a character being a byte: several times as fast as one by one."""
        try:
            raw = "".join(tokens).translate(self._table).encode("latin-1")
        except UnicodeEncodeError:
            return [self(token) for token in tokens]  # which says what token it is
        ends = list(itertools.accumulate(map(len, tokens), initial=0))
        return [raw[start:end] for start, end in itertools.pairwise(ends)]


def decode_byte_level(texts: Mapping[int, str]) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Tokens, and those that are not written in byte-level characters: no text becomes them."""
    decode = ByteDecoder()
    with suppress(ValueError):  # most often all are
        return dict(zip(texts, decode.each_of(list(texts.values())), strict=True)), {}
    tokens: dict[int, bytes] = {}
    unreachable: dict[int, bytes] = {}
    for i, text in texts.items():
        try:
            tokens[i] = decode(text)
        except ValueError:
            unreachable[i] = text.encode(errors="replace")
    return tokens, unreachable


def split_merge(merge: object) -> tuple[str, str]:
    """A merge as "left right", or as a list of the two (newer tokenizer.json)."""
    if isinstance(merge, str):
        left, space, right = merge.partition(" ")
        if space and " " not in right:
            return left, right
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if isinstance(pair, list | tuple) and len(pair) == 2:
        left, right = pair
        if isinstance(left, str) and isinstance(right, str):
            return left, right
    raise ValueError(f"{merge!r:.60} is not a pair of tokens.")


def merges_of_text(merges: Iterable[object], added: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs, without those that one of `added` takes part in: such a token is cut out of a text
    before anything is merged, or text never becomes it. One that is not written as text would be
    (a space has another character) is left in: ordinary text may merge to it.

    Raises ValueError for what is no pair.
    """
    cut_out = {literal for literal in added if literal.isascii() and literal.isprintable()}
    cut_out = {literal for literal in cut_out if " " not in literal}
    pairs = list(map(split_merge, merges))
    if not cut_out:
        return pairs
    return [
        (left, right)
        for left, right in pairs
        if not (left in cut_out or right in cut_out or left + right in cut_out)
    ]


def merge_ranks(vocabulary: Vocabulary, ignore_merges: bool) -> dict[bytes, int]:
    """Each token's rank for tiktoken; equal to its id whenever that orders tokens as the merges do.

    Raises `NoRanks` if no rank per token can say what the merges say.
    """
    ids = {text: token_id for token_id, text in vocabulary.tokens.items()}
    if len(ids) != len(vocabulary.tokens):
        raise ValueError("two tokens have the same bytes.")
    results = _merge_results(vocabulary.merges, ids)
    reachable = {text for text in ids if len(text) == 1} | set(results)
    if ignore_merges:
        reachable |= set(ids)
    if any_can_be_merged((text for text in reachable - set(results) if len(text) > 1), ids):
        raise NoRanks("a token that no merge gives is two others side by side.")
    order = [ids[text] for text in results]
    is_sorted, is_each_once = _is_sorted(order), len(set(results)) == len(results)
    if not (is_sorted or is_each_once):
        raise NoRanks("several merges give the same token, at different priorities.")
    # Where all ways to a token are listed, as of tiktoken's own vocabularies, ranks are the rule.
    if is_each_once and not all_come_out(vocabulary.merges, [t for t in ids if len(t) == 1]):
        raise NoRanks("a token does not come out of its own text.")
    if is_sorted:
        return {text: ids[text] for text in reachable}
    return _ranks_by_merge(results, sorted(reachable, key=ids.__getitem__))


def _ranks_by_merge(results: Sequence[bytes], reachable: Sequence[bytes]) -> dict[bytes, int]:
    """Single bytes first, then merges in their order, then tokens that only match whole pieces."""
    merged = set(results)
    single = [text for text in reachable if len(text) == 1]
    whole = [text for text in reachable if len(text) > 1 and text not in merged]
    return {text: rank for rank, text in enumerate([*single, *results, *whole])}


def _merge_results(merges: Iterable[tuple[bytes, bytes]], ids: Mapping[bytes, int]) -> list[bytes]:
    results = []
    for left, right in merges:
        merged = left + right
        if left not in ids or right not in ids or merged not in ids:
            raise ValueError(
                f"the merge of {left!r:.40} and {right!r:.40} uses a token that is not there."
            )
        results.append(merged)
    return results


def _is_sorted(numbers: Sequence[int]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(numbers))
