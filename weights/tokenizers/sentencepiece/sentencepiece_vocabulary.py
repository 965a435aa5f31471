"""SentencePiece's pieces as a `Vocabulary`: from `tokenizer.model`, or from GGUF's arrays."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.pipeline import Pipeline
from thirdeye.weights.tokenizers.sentencepiece.pieces import (
    SPACE,
    bpe_pipeline,
    merges_of_scores,
    piece_bytes,
    unigram_pipeline,
)
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_model import (
    ModelType,
    Piece,
    PieceType,
)
from thirdeye.weights.tokenizers.vocabulary import Vocabulary

SPECIAL = (PieceType.UNKNOWN, PieceType.CONTROL)


@dataclass(frozen=True, slots=True)
class SpaceRules:
    """`prefix` and `removes_extra`: see `pieces.bpe_pipeline`. `charsmap` counts for Unigram."""

    prefix: str
    removes_extra: bool = False
    charsmap: bytes = b""


@dataclass(frozen=True, slots=True)
class Ends:
    bos: int | None
    eos: frozenset[int]
    add_bos: bool
    add_eos: bool = False
    eos_token_id: int | None = None  # which of them is `eos_token` in templates

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return (self.bos,) if self.add_bos and self.bos is not None else ()

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        has_end = self.add_eos and self.eos_token_id is not None
        return (self.eos_token_id,) if has_end and self.eos_token_id is not None else ()


def piece_vocabulary(
    pieces: Sequence[Piece],
    model_type: int,
    rules: SpaceRules,
    ends: Ends,
    vocab_size: int,
    never_from_text: Container[str] = (),
    merges: Sequence[tuple[str, str]] | None = None,
) -> Vocabulary:
    """`merges`: those of a BPE that has no scores; None: they are made of its scores.

    Raises ValueError for what is neither BPE nor Unigram, or contradicts itself.
    """
    if len(pieces) > vocab_size:
        raise ValueError(f"there are {len(pieces)} tokens, the model has {vocab_size}.")
    added = _added(pieces)
    special = {
        text: i for text, i in added.items() if pieces[i].type in SPECIAL or text in never_from_text
    }
    return Vocabulary(
        tokens={
            i: piece_bytes(piece.text, piece.type == PieceType.BYTE)
            for i, piece in enumerate(pieces)
            if i not in added.values()
        },
        merges=(),
        special_tokens=special,
        pre_tokenizer=_pipeline(pieces, model_type, rules, set(added.values()), merges),
        vocab_size=vocab_size,
        bos_token_id=ends.bos,
        eos_token_ids=ends.eos,
        eos_token_id=ends.eos_token_id,
        prefix_ids=ends.prefix_ids,
        suffix_ids=ends.suffix_ids,
        text_tokens=[AddedToken(text, i) for text, i in added.items() if text not in special],
    )


def _added(pieces: Sequence[Piece]) -> dict[str, int]:
    """Special ones as they stand, a user's as text would spell them."""
    added: dict[str, int] = {}
    for i, piece in enumerate(pieces):
        if piece.type not in (*SPECIAL, PieceType.USER_DEFINED):
            continue
        is_text = piece.type == PieceType.USER_DEFINED
        literal = piece.text.replace(SPACE, " ") if is_text else piece.text
        if literal in added:
            raise ValueError(f"the token {literal!r:.60} appears twice.")
        added[literal] = i
    return added


def _pipeline(
    pieces: Sequence[Piece],
    model_type: int,
    rules: SpaceRules,
    added: set[int],
    merges: Sequence[tuple[str, str]] | None,
) -> Pipeline:
    num_bytes = sum(piece.type == PieceType.BYTE for piece in pieces)
    if num_bytes not in (0, 256):
        raise ValueError(f"there are {num_bytes} tokens for single bytes, not 256 or none.")
    if model_type == ModelType.UNIGRAM:
        return unigram_pipeline(
            [(piece.text, piece.score) for piece in pieces],
            charsmap=rules.charsmap,
            byte_fallback=num_bytes > 0,
            removes_extra_spaces=rules.removes_extra,
            prefix=rules.prefix,
        )
    if model_type != ModelType.BPE:
        raise ValueError(f"SentencePiece's model type {model_type} is neither Unigram nor BPE.")
    vocab = {piece.text: i for i, piece in enumerate(pieces) if i not in added}
    if len(vocab) != len(pieces) - len(added):
        raise ValueError("two tokens have the same text.")
    if merges is None:
        merges = merges_of_scores(vocab, [piece.score for piece in pieces])
    return bpe_pipeline(
        vocab,
        merges,
        prefix=rules.prefix,
        byte_fallback=num_bytes > 0,
        num_ids=len(pieces),
        removes_extra_spaces=rules.removes_extra,
    )
