"""The parts of a tokenizer.json that tiktoken cannot say, as a `Pipeline`; known parts alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.known_keys import parts_of
from thirdeye.weights.tokenizers.pipeline import Pipeline
from thirdeye.weights.tokenizers.sentencepiece.pieces import SPACE, spells_a_byte
from thirdeye.weights.tokenizers.vocabulary import merges_of_text

SHRINKING = frozenset(
    ["NFC", "NFKC", "Replace", "Strip", "Precompiled", "Lowercase", "StripAccents", "Nmt"]
)
MAX_EXPRESSION = 4096
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


def read_pipeline(
    tokenizer: Fields, model: Fields, num_ids: int, special: Iterable[str] = ()
) -> Pipeline:
    """`num_ids`: one more than the largest id. Raises ModelFormatError for an unknown part."""
    normalizers, pre_tokenizers, decoders = (
        parts_of(tokenizer, key) for key in ("normalizer", "pre_tokenizer", "decoder")
    )
    for part in pre_tokenizers:
        _check_split(tokenizer, part)
    if not is_byte_level(tokenizer):
        if any(part["type"] == "ByteLevel" for part in decoders):
            raise tokenizer.error("decoder", "is ByteLevel, but the pre-tokenizer is not.")
        if not _writes_spaces(normalizers, pre_tokenizers):
            raise tokenizer.error("pre_tokenizer", f"there is no rule that makes spaces '{SPACE}'.")
    kept = ("type", "vocab", "merges", "byte_fallback", "fuse_unk", "ignore_merges")
    values = {key: model.raw(key) for key in kept if key in model}
    if "merges" in values:
        values["merges"] = _merges_of(model, special)
    if model.boolean("byte_fallback", False):
        _check_byte_pieces(model)
        if "merges" in values:
            merges = values["merges"]
            values["merges"] = [merge for merge in merges if not spells_a_byte(merge, True)]
    return Pipeline(
        {"type": "BPE"} | values,
        tokenizer.raw("normalizer", None),
        tokenizer.raw("pre_tokenizer", None),
        num_ids=num_ids,
        shrinks=any(_shrinks(part) for part in normalizers)
        or any(part["type"] == "WhitespaceSplit" for part in pre_tokenizers),
    )


def _merges_of(model: Fields, special: Iterable[str]) -> list[tuple[str, str]]:
    merges = model.raw("merges")
    if not isinstance(merges, list):
        raise model.error("merges", "must be a list.")
    try:
        return merges_of_text(merges, special)
    except ValueError as error:
        raise model.error("merges", str(error)) from error


def is_byte_level(tokenizer: Fields) -> bool:
    """Whether tokens are written in GPT-2's characters for bytes."""
    return any(part["type"] == "ByteLevel" for part in parts_of(tokenizer, "pre_tokenizer"))


def _check_split(tokenizer: Fields, part: Mapping[str, Any]) -> None:
    if part["type"] == "Metaspace" and part.get("replacement") != SPACE:
        raise tokenizer.error("pre_tokenizer", f"spaces must be written '{SPACE}'.")
    if part["type"] != "Split":
        return
    if part.get("behavior") == "Removed":
        raise tokenizer.error("pre_tokenizer", "a Split that removes text is not supported.")
    pattern = part.get("pattern")
    text = next(iter(pattern.values()), None) if isinstance(pattern, dict) else None
    if not isinstance(text, str) or len(text) > MAX_EXPRESSION:
        raise tokenizer.error(
            "pre_tokenizer", f"a Split's pattern must be of at most {MAX_EXPRESSION:,} characters."
        )


def _writes_spaces(
    normalizers: list[Mapping[str, Any]], pre_tokenizers: list[Mapping[str, Any]]
) -> bool:
    return any(part["type"] == "Metaspace" for part in pre_tokenizers) or any(
        _is_space_rule(part) for part in normalizers
    )


def _is_space_rule(part: Mapping[str, Any]) -> bool:
    return part == {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def _shrinks(part: Mapping[str, Any]) -> bool:
    return part["type"] in SHRINKING and not _is_space_rule(part)


def _check_byte_pieces(model: Fields) -> None:
    vocab = model.raw("vocab")
    texts = vocab if isinstance(vocab, dict) else {entry[0] for entry in vocab}
    if lacking := [piece for piece in BYTE_PIECES if piece not in texts]:
        raise model.error("byte_fallback", f"the vocabulary has no token {lacking[0]}.")
