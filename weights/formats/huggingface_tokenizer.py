"""The tokenizer of a directory in Hugging Face layout, from whichever files say it."""

from collections.abc import Container
from dataclasses import dataclass

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face import tokenizer_json, vocab_and_merges
from thirdeye.weights.tokenizers.hugging_face.vocab_and_merges import SPECIAL_TOKENS
from thirdeye.weights.tokenizers.sentencepiece import tokenizer_model
from thirdeye.weights.tokenizers.tokenizer import Tokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary

WHOLE, PIECES, SETTINGS = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
NO_TOKENIZER = (
    f"there is no {WHOLE}, no {PIECES}, and no {vocab_and_merges.VOCAB} with "
    f"{vocab_and_merges.MERGES}. Copy the model's into the directory."
)


@dataclass(frozen=True, slots=True)
class Ids:
    """What config.json and generation_config.json say of a vocabulary of `vocab_size`."""

    vocab_size: int
    bos: int | None
    eos: frozenset[int]


def read_tokenizer(
    directory: Directory, model_type: str, ids: Ids, never_from_text: Container[str]
) -> Tokenizer:
    """Raises `ModelFormatError`."""
    path = directory.path / tokenizer_files(directory)[0]
    try:
        return Tokenizer(_vocabulary(directory, model_type, ids, never_from_text))
    except ModelFormatError:
        raise
    except ValueError as error:
        raise ModelFormatError(path, str(error)) from error


def tokenizer_files(directory: Directory) -> tuple[str, ...]:
    """Those that are read, the one that has the tokens first."""
    for name in (WHOLE, PIECES):
        if directory.find(name) is not None:
            return (name, SETTINGS, SPECIAL_TOKENS)
    return (*vocab_and_merges.FILES, SETTINGS)


def _vocabulary(
    directory: Directory, model_type: str, ids: Ids, never_from_text: Container[str]
) -> Vocabulary:
    settings = _settings(directory)
    if (whole := directory.fields(WHOLE)) is not None:
        return _of_json(whole, settings, ids, never_from_text)
    if (pieces := directory.find(PIECES)) is not None:
        return tokenizer_model.read_vocabulary(
            pieces, settings, ids.vocab_size, ids.bos, ids.eos, never_from_text
        )
    parts = vocab_and_merges.read_vocab_and_merges(directory, settings, model_type)
    if parts is None:
        raise ModelFormatError(directory.path, NO_TOKENIZER)
    return _of_json(*parts, ids, never_from_text)


def _settings(directory: Directory) -> Fields | None:
    """tokenizer_config.json; where it is of before transformers 4.34, which wrote no
    'added_tokens_decoder', special_tokens_map.json names the special tokens, as in transformers."""
    settings, special = directory.fields(SETTINGS), directory.fields(SPECIAL_TOKENS)
    if special is None or (settings is not None and "added_tokens_decoder" in settings):
        return settings
    if settings is None:
        return special
    return Fields(settings.path, {**settings.values, **special.values})


def _of_json(
    tokenizer: Fields, settings: Fields | None, ids: Ids, never_from_text: Container[str]
) -> Vocabulary:
    return tokenizer_json.read_vocabulary(
        tokenizer, settings, ids.vocab_size, ids.bos, ids.eos, never_from_text
    )
