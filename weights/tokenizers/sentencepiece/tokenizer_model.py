"""SentencePiece's tokenizer.model (with tokenizer_config.json) as a `Vocabulary`."""

from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.added_tokens import AddedToken
from thirdeye.weights.tokenizers.hugging_face.added_tokens_json import read_added_tokens
from thirdeye.weights.tokenizers.hugging_face.settings_keys import check_settings
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_model import (
    ModelType,
    Piece,
    PieceType,
    read_sentencepiece,
)
from thirdeye.weights.tokenizers.sentencepiece.sentencepiece_vocabulary import (
    Ends,
    SpaceRules,
    piece_vocabulary,
)
from thirdeye.weights.tokenizers.vocabulary import Vocabulary


def read_vocabulary(
    path: Path,
    settings: Fields | None,
    vocab_size: int,
    bos: int | None,
    eos: frozenset[int],
    never_from_text: Container[str] = (),
) -> Vocabulary:
    """`settings` is tokenizer_config.json; `bos` and `eos` are what the model's config says.

    Where SentencePiece puts a space in front of a text, `legacy` there says whether text behind a
    special token gets one too. Without it, it does not, as in transformers 5. Pieces that
    tokenizer_config.json lists as added tokens are, by the name and with the flags that it gives;
    tokens beside the file's own are refused: only tokenizer.json says all of them.
    """
    if settings is not None:
        check_settings(settings)
    model = read_sentencepiece(path)
    if model.treat_whitespace_as_suffix:
        raise ModelFormatError(path, "white space behind words is not supported.")
    if model.charsmap and model.model_type == ModelType.BPE:
        raise ModelFormatError(path, "BPE with a table of normalizations is not supported.")
    _check_added(settings, len(model.pieces))
    added = _added(path, settings, vocab_size)
    listed = [_as_added(piece, added.get(i)) for i, piece in enumerate(model.pieces)]
    pieces = {piece.text: i for i, piece in enumerate(listed)}
    is_legacy = settings is not None and settings.boolean("legacy", False)
    prefix = "never"
    if model.add_dummy_prefix:
        prefix = "always" if is_legacy or model.model_type == ModelType.UNIGRAM else "first"
    bos = pieces.get(_name(settings, "bos_token"), bos)
    end = pieces.get(_name(settings, "eos_token"))
    is_added = settings is None or settings.boolean("add_bos_token", True)
    is_ended = settings is not None and settings.boolean("add_eos_token", False)
    vocabulary = piece_vocabulary(
        listed,
        model.model_type,
        SpaceRules(prefix, model.remove_extra_whitespaces, model.charsmap),
        Ends(bos, eos if end is None else eos | {end}, is_added, is_ended, end),
        vocab_size,
        never_from_text,
    )
    return _with_flags(vocabulary, {token.literal: token for token, _ in added.values()})


Added = Mapping[int, tuple[AddedToken, bool]]  # by id, with whether it is special


def _added(path: Path, settings: Fields | None, vocab_size: int) -> Added:
    nothing = Fields(path, {})
    found = read_added_tokens(nothing, settings, {}, vocab_size)
    return {token.token_id: (token, is_special) for token, is_special in found}


def _as_added(piece: Piece, added: tuple[AddedToken, bool] | None) -> Piece:
    if added is None:
        return piece
    token, is_special = added
    if is_special and piece.type == PieceType.UNKNOWN:
        return piece._replace(text=token.literal)
    kind = PieceType.CONTROL if is_special else PieceType.USER_DEFINED
    return piece._replace(text=token.literal, type=kind)


def _with_flags(vocabulary: Vocabulary, added: Mapping[str, AddedToken]) -> Vocabulary:
    strips = {
        literal: (token.lstrip, token.rstrip)
        for literal, token in added.items()
        if literal in vocabulary.special_tokens and (token.lstrip or token.rstrip)
    }
    text = [added.get(token.literal, token) for token in vocabulary.text_tokens]
    return replace(vocabulary, strips=strips, text_tokens=text)


def _name(settings: Fields | None, key: str) -> str:
    value = settings.raw(key, "") if settings is not None else ""
    name = value.get("content") if isinstance(value, dict) else value
    return name if isinstance(name, str) else ""


def _check_added(settings: Fields | None, num_pieces: int) -> None:
    added = settings.raw("added_tokens_decoder", {}) if settings is not None else {}
    ids = [int(key) for key in added if key.isdecimal()] if isinstance(added, dict) else []
    if settings is not None and ids and max(ids) >= num_pieces:
        raise settings.error(
            "added_tokens_decoder",
            f"adds the id {max(ids)} to the {num_pieces} of tokenizer.model: such a checkpoint "
            "needs its tokenizer.json.",
        )
