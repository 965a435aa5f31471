"""SentencePiece's `tokenizer.model`: a protobuf message, read with bounds and without its library.

Only what a tokenizer needs is read; a length that leads out of its message, a number of more than
64 bits and a piece that is no UTF-8 are refused. Field numbers are those of sentencepiece's
published `sentencepiece_model.proto`.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from thirdeye.weights.errors import ModelFormatError

MAX_BYTES = 16 << 20  # the largest have 5 MB
MAX_PIECES = 300_000  # and 2 ** 18 pieces
MAX_FIELDS = 4 * MAX_PIECES + 1000  # a piece has three, and is one
MAX_PIECE_BYTES = 4096
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of ModelProto
FLOAT, ZERO = struct.Struct("<f"), bytes(4)


class PieceType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


KINDS = frozenset(PieceType)


class ModelType(IntEnum):
    UNIGRAM = 1
    BPE = 2


class Piece(NamedTuple):  # up to 300,000 are made, more quickly than frozen dataclasses
    text: str
    score: float
    type: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    pieces: list[Piece]
    model_type: int
    byte_fallback: bool
    charsmap: bytes  # a table of normalizations, compiled
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    treat_whitespace_as_suffix: bool


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Raises ModelFormatError for what is no such file."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ModelFormatError(path, f"has {size:,} bytes, the limit is {MAX_BYTES:,}.")
    try:
        return _model(path.read_bytes())
    except ValueError as error:
        raise ModelFormatError(path, f"is no SentencePiece model: {error}") from error


def _model(raw: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    fields = _FieldReader(MAX_FIELDS).fields
    for number, value in fields(raw):
        if number == PIECES:
            if len(pieces) == MAX_PIECES:
                raise ValueError(f"it has more than {MAX_PIECES:,} pieces.")
            pieces.append(_piece(dict(fields(_message(value)))))
        elif number == TRAINER:
            trainer |= dict(fields(_message(value)))
        elif number == NORMALIZER:
            normalizer |= dict(fields(_message(value)))
    if not pieces:
        raise ValueError("it has no pieces.")
    if not trainer:  # they come behind the pieces, and say what kind of model it is
        raise ValueError("it ends before the trainer's settings.")
    return SentencePieceModel(
        pieces=pieces,
        model_type=_number(trainer.get(3, ModelType.UNIGRAM)),
        byte_fallback=bool(_number(trainer.get(35, 0))),
        charsmap=_message(normalizer.get(2, b"")),
        add_dummy_prefix=bool(_number(normalizer.get(3, 1))),
        remove_extra_whitespaces=bool(_number(normalizer.get(4, 1))),
        treat_whitespace_as_suffix=bool(_number(trainer.get(24, 0))),
    )


def _piece(fields: dict[int, int | bytes]) -> Piece:
    text, score = _message(fields.get(1, b"")), fields.get(2, ZERO)
    if not 0 < len(text) <= MAX_PIECE_BYTES:
        raise ValueError(f"a piece has {len(text):,} bytes, the limit is {MAX_PIECE_BYTES:,}.")
    if not isinstance(score, bytes) or len(score) != 4:
        raise ValueError(f"the piece {text!r:.40} has a score that is no 32-bit number.")
    (number,) = FLOAT.unpack(score)
    if not math.isfinite(number):
        raise ValueError(f"the piece {text!r:.40} has the score {number}.")
    kind = _number(fields.get(3, PieceType.NORMAL))
    if kind not in KINDS:
        raise ValueError(f"the piece {text!r:.40} is of the unknown type {kind}.")
    return Piece(text.decode(), number, kind)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should.")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a message stands where a number should.")
    return value


class _FieldReader:
    """Reads messages of a file, all together at most so many fields."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def fields(self, raw: bytes) -> Iterator[tuple[int, int | bytes]]:
        """Field numbers and their values: a number, or the bytes of a message, string or float."""
        at = 0
        while at < len(raw):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields.")
            tag, at = (raw[at], at + 1) if raw[at] < 0x80 else _varint(raw, at)  # most are short
            kind = tag & 7
            if kind == VARINT:
                value, at = _varint(raw, at)
                yield tag >> 3, value
                continue
            if kind == BYTES:
                is_short = at < len(raw) and raw[at] < 0x80
                size, at = (raw[at], at + 1) if is_short else _varint(raw, at)
            elif kind in (FIXED32, FIXED64):
                size = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"byte {at} begins a field of the unknown kind {kind}.")
            if size > len(raw) - at:
                raise ValueError(
                    f"{size:,} bytes are announced at byte {at}, {len(raw) - at:,} left."
                )
            yield tag >> 3, raw[at : at + size]
            at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at == len(raw):
            raise ValueError("it ends inside a number.")
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    raise ValueError(f"a number before byte {at} has more than 64 bits.")
